#!/usr/bin/env bash
# CatBoost (1.2.10) says n_features_in_ = 0 of a fitted classifier that was pickled or copied, whose answers are
# unchanged: checks of scikit-learn's attribute, as workers of a pool make them, then refuse any table.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# Without what it only draws with.
"$folder/venv/bin/python" -m pip install --quiet --no-deps "catboost==${CATBOOST:-1.2.10}" "numpy==2.4.1" "scipy==1.17.0" pandas==3.1.1 python-dateutil==2.9.0.post0 six graphviz
cat > "$folder/script.py" <<'end'
import copy
import pickle

import catboost
import numpy as np

table = np.random.default_rng(1).normal(size=(50, 2))
fitted = catboost.CatBoostClassifier(n_estimators=2, verbose=0, allow_writing_files=False)
fitted.fit(table, table[:, 0] > 0)
others = {"pickled": pickle.loads(pickle.dumps(fitted)), "copied": copy.deepcopy(fitted)}
print("catboost", catboost.__version__)
print("fitted: n_features_in_ =", fitted.n_features_in_)
for name, other in others.items():
    same = np.array_equal(other.predict_proba(table), fitted.predict_proba(table))
    print(f"{name}: n_features_in_ = {other.n_features_in_}, same answers: {same}")
raise SystemExit(0 if all(one.n_features_in_ == 0 for one in others.values()) else 1)
end
"$folder/venv/bin/python" "$folder/script.py"
