"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

python .ci/oldest.py > constraints.txt
python -m pip install --constraint constraints.txt --editable ".[fast]"
"""

import re
import tomllib
from pathlib import Path

#: Tools of whoever works on the package; users have no old ones of them.
TOOLS = ("test", "docs")

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in project["dependencies"] + [
    requirement for name in extras if name not in TOOLS for requirement in extras[name]
]:
    print(re.sub(r">=", "==", requirement))
