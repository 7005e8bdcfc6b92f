"""The command line delegates, and its exit codes say how that went."""

import json
import os
import subprocess
import sys
from inspect import signature

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

import morpheus_core
from morpheus_core import InputError
from morpheus_core.cli import main, make_parser
from morpheus_core.commands.arguments import predict_options
from morpheus_core.commands.catalog import catalog_options
from morpheus_core.commands.map import map_options
from morpheus_core.commands.models import adapter_options, complete

MODEL = """
import numpy as np

def make():
    def model(batch):
        bright = 1 / (1 + np.exp(-batch[0].astype(np.float32)))
        return np.concatenate([bright, 1 - bright], axis=-1)
    return model

def middle():
    return lambda batch: batch[0][:, 1, 1]

def broken():
    raise RuntimeError("no weights")

def interrupted():
    raise KeyboardInterrupt

def ending(error):
    calls, model = [], make()
    def ends(batch):
        calls.append(1)
        if len(calls) > 9:
            raise error
        return model(batch)
    return ends

def failing():
    return ending(ValueError("no more"))

def stopped():
    return ending(KeyboardInterrupt())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to stand in, with an image and a module of a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "cli_network.py").write_text(MODEL)
    pixels = np.random.default_rng(0).normal(size=(60, 50)).astype(np.float32)
    fits.PrimaryHDU(pixels).writeto("image.fits")
    yield tmp_path
    sys.modules.pop("cli_network", None)


WINDOWS = ["--window", "12", "10", "--stride", "4", "--batch-size", "16", "--no-progress"]
ARGUMENTS = ["image.fits", "--model", "cli_network:make", "--n-classes", "2", *WINDOWS]


def predict(*more):
    return main(["predict", *ARGUMENTS, "--out-dir", "out", *more])


def test_predict_writes_what_the_function_writes(folder, capsys):
    names = ["--aggregate", "mean_var", "--class-names", "star", "sky"]
    assert predict(*names) == 0
    import cli_network

    _, (expected, n) = morpheus_core.predict(
        cli_network.make(),
        "image.fits",
        2,
        16,
        (12, 10),
        stride=(4, 4),
        aggregate_method="mean_var",
        progress=False,
    )
    np.testing.assert_array_equal(fits.getdata("out/output.fits"), expected)
    np.testing.assert_array_equal(fits.getdata("out/n.fits"), n)
    assert fits.getheader("out/output.fits")["CLASS1"] == "sky"
    assert "out/output.fits  MEAN_VAR  (60, 50, 2, 2)\n" in capsys.readouterr().out


def test_predict_in_workers_with_both_methods(folder):
    assert predict("--aggregate", "mean_var", "--aggregate", "rank_vote", "--cpus", "2") == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "n.fits",
        "output_mean_var.fits",
        "output_rank_vote.fits",
        "run.json",
    ]


def test_exports(folder):
    assert predict("--planes", "planes.fits", "--masks", "masks.fits", "--threshold", "0.7") == 0
    with fits.open("masks.fits") as masks, fits.open("planes.fits") as planes:
        assert set(np.unique(masks[1].data)) <= {0, 1}
        assert len(planes) > 3


MASKS = ["--masks", "masks.fits", "--threshold"]


@pytest.mark.parametrize("command", ["predict", "plan"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--planes", "there.fits"], "there.fits exists already; pass --overwrite"),
        (["--planes", "image.fits", "--overwrite"], "would replace the input"),
        (["--planes", "bad.fits", "--mask", "bad.fits[0]", "--overwrite"], "would replace the inp"),
        (["--planes", "net.pkl", "--model", "net.pkl", "--overwrite"], "would replace the input"),
        (["--planes", "map.npy", "--update-map", "map.npy", "--overwrite"], "would replace the in"),
        (["--planes", "out/../masks.fits", *MASKS, "0.5", "--overwrite"], "must be two files"),
        (["--planes", "planes.fits.gz"], "an export is not compressed"),
        (["--planes", "nowhere/planes.fits"], "there is no folder nowhere"),
        (["--planes", "out/output.fits"], "is the name of an output of predict"),
        (
            ["--masks", "masks.fits"],
            "--masks and --product bits need --threshold",
        ),
        ([*MASKS, "0.1", "0.2", "0.3"], "--threshold must be one number, or 2"),
        ([*MASKS, "nan"], "--threshold must be finite"),
    ],
)
def test_exports_are_refused_before_the_run(folder, capsys, command, options, message):
    for name in ("there.fits", "bad.fits", "net.pkl", "map.npy"):
        (folder / name).touch()
    before = {path: path.stat() for path in folder.iterdir()}
    assert main([command, *ARGUMENTS, "--out-dir", "out", *options]) == 1
    assert message in capsys.readouterr().err
    assert {path: path.stat() for path in folder.iterdir()} == before


def test_exports_beside_the_outputs(folder):
    assert predict("--planes", "out/planes.fits") == 0
    assert (folder / "out" / "planes.fits").is_file()


@pytest.mark.parametrize(
    ("name", "code", "message"), [("failing", 1, "ValueError: no more"), ("stopped", 130, "")]
)
def test_what_is_kept_is_told_in_the_words_of_a_shell(folder, capsys, name, code, message):
    assert predict("--model", f"cli_network:{name}") == code
    said = capsys.readouterr().err
    assert message in said
    assert said.endswith(
        f"What is finished is kept in {folder}/out: --resume continues from there.\n"
    )
    assert predict() == 1
    assert "pass --resume to continue that one" in capsys.readouterr().err


def test_plan_writes_nothing(folder, capsys, monkeypatch):
    monkeypatch.setattr("morpheus_core.planning.trials.SECONDS", 0.01)
    before = set(folder.iterdir())
    assert main(["plan", *ARGUMENTS, "--out-dir", "out"]) == 0
    assert "windows   143 in 13 batches" in capsys.readouterr().out
    assert main(["plan", *ARGUMENTS, "--out-dir", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batches"] == 13
    assert {path for path in folder.iterdir() if path.name != "__pycache__"} == before


def test_view(folder, capsys):
    require("matplotlib")
    assert predict() == 0
    assert main(["view", "out", "--image", "image.fits"]) == 0
    assert (folder / "out" / "quicklook.png").stat().st_size > 10_000
    assert main(["view", "out"]) == 1
    assert "quicklook.png exists already" in capsys.readouterr().err
    assert main(["view", "out", "--picture", "look.nonsense"]) == 1
    assert main(["view", "nowhere", "--picture", "look.png"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "70"], "window"),
        (["--model", "cli_network:broken"], "RuntimeError: no weights"),
        (["--model", "net.onnx"], "onnx"),
        (["--model", "net.pkl"], "net.pkl"),
        (["--model", "net.h5"], "a model must be a file with one of the suffixes"),
        (["--model", "damaged.pkl", "--trust-pickle"], "damaged.pkl cannot be loaded"),
        (["--update-map", "triangle"], "--update-map must be gaussian, hann or a file"),
        (["--update-map", "empty"], "--update-map must be gaussian, hann or a file"),
        (["--update-map", "broken.npz"], "--update-map must be gaussian, hann or a file"),
        (["--update-map", "gaussian", "--window", "0"], "--window must be two whole numbers"),
        (["--update-map", "gaussian", "--dilation", "0"], "dilation must be"),
        (["--update-map", "gaussian", "--dilation", "1/99"], "dilation"),
        (["--gpus", "²"], "a GPU must be an index"),
        (["--fill-nan", "none"], "--fill-nan must be one number, one per band"),
        (["--activation", "softmax"], "takes no --activation"),
        (["--mask", "no.fits"], "morpheus-core: --mask: no such file: no.fits\n"),
    ],
)
def test_errors_of_ours_are_told_without_a_traceback(folder, capsys, arguments, message):
    (folder / "empty").touch()
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    (folder / "damaged.pkl").write_bytes(b"damaged")
    assert predict(*arguments) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not list(folder.glob("out/*"))


@pytest.mark.parametrize(("model", "added"), [("a:b.onnx", 0), ("cli_network:make", 1)])
def test_modules_are_looked_for_here(folder, capsys, model, added):
    sys.path[:] = [path for path in sys.path if path != str(folder)]
    for _ in range(2):
        predict("--model", model, "--overwrite")
    assert sys.path.count(str(folder)) == added


def test_verbose_shows_where(folder, capsys):
    assert predict("--model", "cli_network:broken", "-v") == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupted(folder, capsys):
    assert predict("--model", "cli_network:interrupted") == 130
    assert capsys.readouterr().err == "morpheus-core: interrupted\n"


def test_a_pickle_needs_trust(folder, capsys):
    import dill

    def model(batch):
        return np.concatenate([batch[0], -batch[0]], axis=-1)

    (folder / "model.pkl").write_bytes(dill.dumps(model, recurse=True))
    assert predict("--model", "model.pkl") == 1
    assert "runs whatever code" in capsys.readouterr().err
    assert predict("--model", "model.pkl", "--trust-pickle") == 0


@pytest.mark.parametrize("arguments", [[], ["predict"], ["plan", "--nonsense"], ["view"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-clases", "2"], "unrecognized arguments: --n-clases 2 (did you mean --n-classes?)"),
        (["--strid=3"], "unrecognized arguments: --strid=3 (did you mean --stride?)"),
        (["--qqq"], "unrecognized arguments: --qqq"),
        (["--threads", "two"], "argument --threads: invalid int value: 'two'"),
    ],
)
def test_wrong_usage_is_told_in_one_line(folder, capsys, arguments, message):
    with pytest.raises(SystemExit):
        predict(*arguments)
    line = f"morpheus-core predict: error: {message}; see morpheus-core predict --help\n"
    assert capsys.readouterr().err == line


def test_a_model_that_cannot_be_loaded_was_given_nothing(folder, capsys):
    require("torch")
    (folder / "net.pt").write_bytes(b"no archive")
    assert predict("--model", "net.pt") == 1
    said = f"{folder}/net.pt holds no program of torch.export or TorchScript"
    assert capsys.readouterr().err == f"morpheus-core: {said}\n"


@pytest.mark.filterwarnings("default::morpheus_core.MorpheusWarning")
def test_borders_that_do_not_count_are_told_of(folder, capsys):
    assert predict("--crop", "3") == 0
    ways = "--update-map that counts more of the window (--keep-border), or --padding reflect"
    assert ways in capsys.readouterr().err


@pytest.mark.parametrize("dilation", ["1/0", "two"])
def test_a_dilation_that_is_no_fraction(capsys, dilation):
    with pytest.raises(SystemExit) as exit_:
        predict("--dilation", dilation)
    assert exit_.value.code == 2
    assert f"invalid fraction value: '{dilation}'" in capsys.readouterr().err


def test_three_numbers_are_no_pair(folder, capsys):
    with pytest.raises(SystemExit):
        predict("--stride", "1", "2", "3")
    assert "--stride must be one number or two, got 3" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "plan", "map", "view", "demo"])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"morpheus-core {command} " in capsys.readouterr().out.split("example")[1]


def parsed(*arguments):
    return make_parser().parse_args(["predict", *ARGUMENTS, "--out-dir", "out", *arguments])


#: Arguments that have no option, or one of another kind.
WITHOUT = {
    "model": "what --model, and the options of networks, stand for",
    "executor": "--dask connects to one; others are made in Python",
    "on_file": "the command prints what it is told",
}


@pytest.mark.parametrize(
    ("function", "options", "arguments"),
    [
        (morpheus_core.predict, predict_options, ["predict", "a.fits", "--out-dir", "out"]),
        (
            morpheus_core.predict_catalog,
            catalog_options,
            ["catalog", *["a", "--catalog", "b", "--out", "c"]],
        ),
        (morpheus_core.map_exposures, map_options, ["map", "a.fits"]),
    ],
)
def test_every_argument_has_its_option(function, options, arguments):
    more = ["--model", "a:b", "--window", "3", "--n-classes", "2"]
    given = options(make_parser().parse_args([*arguments, *more]))
    assert set(given) == set(signature(function).parameters) - set(WITHOUT)
    for name, parameter in signature(function).parameters.items():
        if name in given and name not in OWN:
            np.testing.assert_equal(given[name], parameter.default, err_msg=name)


#: What the command line must say itself.
OWN = (
    "n_classes",
    "batch_size",
    "window_shape",
    "stride",
    "model_inputs",
    "paths",
    "catalog",
    "out",
    "out_dir",
)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--stride", "3"], "stride", (3, 3)),
        (["--stride", "3", "5"], "stride", (3, 5)),
        (["--gpus", "0", "GPU-12"], "gpus", [0, "GPU-12"]),
        (["--cpus", "3"], "cpus", 3),
        (["--mask-bits", "4,8"], "mask_bits", "4,8"),
        (["--prefetch", "0"], "prefetch", 0),
        (["--strips", "7"], "strips", 7),
        (["--fill-value", "0"], "fill_value", 0.0),
        (["--dilation", "1/2"], "dilation", 0.5),
        (["--resume"], "resume", True),
    ],
)
def test_options_mean_what_predict_takes(arguments, name, value):
    assert predict_options(parsed(*arguments))[name] == value


def test_update_maps(folder):
    options = ["--window", "12", "--dilation", "2"]
    crop = predict_options(parsed(*options, "--crop", "3"))["update_map"]
    assert crop.shape == (24, 24)
    assert crop.sum() == 18 * 18
    kept = predict_options(parsed(*options, "--crop", "3", "--keep-border"))["update_map"]
    assert (kept[crop] == 1).all()
    assert (kept[~crop] <= 1e-6).all()
    with pytest.raises(InputError, match="--keep-border needs --crop"):
        predict_options(parsed(*options, "--keep-border"))
    hann = predict_options(parsed(*options, "--update-map", "hann"))["update_map"]
    np.save("map.npy", hann)
    loaded = predict_options(parsed(*options, "--update-map", "map.npy"))["update_map"]
    np.testing.assert_array_equal(loaded, hann)


def test_classes_may_be_counted_by_their_names():
    arguments = ["predict", "a.fits", "--model", "a:b", "--window", "3", "--out-dir", "out"]
    parse = make_parser().parse_args
    assert predict_options(parse([*arguments, "--class-names", "a", "b"]))["n_classes"] == 2
    with pytest.raises(InputError, match="--n-classes must say how many classes"):
        predict_options(parse(arguments))


@pytest.mark.parametrize(("command", "size"), [("predict", 64), ("map", 8), ("catalog", 64)])
def test_batches_have_the_usual_size(command, size):
    more = {"predict": ["--out-dir", "out"], "catalog": ["--catalog", "c", "--out", "o"]}
    arguments = [command, "a.fits", "--model", "a:b", *more.get(command, [])]
    chosen = make_parser().parse_args([*arguments, "--window", "3"])
    complete(chosen)
    assert chosen.batch_size == size
    with pytest.raises(InputError, match="--window must say how large windows are"):
        complete(make_parser().parse_args(arguments))


def test_options_of_the_network():
    arguments = ["--channels", "last", "--separate-inputs", "--fill-nan", "0"]
    options = adapter_options(parsed(*arguments))
    assert options == {"channels": "last", "stack_inputs": False, "fill_nan": [0.0]}
    assert adapter_options(parsed()) == {}
    assert adapter_options(parsed("--fill-nan", "median")) == {"fill_nan": "median"}
    assert adapter_options(parsed("--fill-nan", "0", "-1.5")) == {"fill_nan": [0, -1.5]}
    with pytest.raises(InputError, match="one number, one per band, or median, got mode"):
        adapter_options(parsed("--fill-nan", "mode"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--min-max 0 100", [0.5, 0.1]),
        ("--min-max 0 100 -10 10", [0.5, 1]),
        ("--z-score 40 10", [1, -3]),
        ("--z-score 40 10 8 1", [1, 2]),
        ("--standardize", [1, -1]),
    ],
)
def test_pixels_are_scaled(words, expected):
    pixels = np.array([50, 10], np.float32).reshape(1, 1, 1, 2)
    scaled = adapter_options(parsed(*words.split()))["normalize"](pixels)
    np.testing.assert_allclose(scaled.ravel(), expected, rtol=1e-6)


def test_numbers_that_come_in_pairs(capsys):
    with pytest.raises(SystemExit):
        parsed("--z-score", "1", "2", "3")
    assert "--z-score must be two numbers, or two per band, got 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--thresholds 0.7", "thresholds", 0.7),
        ("--thresholds 0.7 0.2", "thresholds", [0.7, 0.2]),
        ("--thresholds values.txt", "thresholds", [0.1, 0.9]),
        ("--probabilities", "thresholds", None),
        ("--priors 0.3 0.7", "priors", [0.3, 0.7]),
        ("--trained-priors values.txt", "trained_priors", [0.1, 0.9]),
        ("--classes SKY", "classes", ["SKY"]),
        ("--classes SKY CR", "classes", ["SKY", "CR"]),
        ("--classes wanted.txt", "classes", ["CR"]),
    ],
)
def test_values_of_classes(folder, words, name, value):
    (folder / "values.txt").write_text("SKY 0.9\nCR 0.1\n")
    (folder / "wanted.txt").write_text("SKY 0\nCR 1\n")
    arguments = ["map", "a.fits", "--class-names", "CR", "SKY", "--model", "a:b", "--window", "3"]
    parse = make_parser().parse_args
    assert map_options(parse([*arguments, *words.split()]))[name] == value


def test_what_are_no_values_of_classes():
    arguments = ["map", "a.fits", "--class-names", "CR", "SKY", "--model", "a:b", "--window", "3"]
    chosen = make_parser().parse_args([*arguments, "--thresholds", "nowhere.txt"])
    with pytest.raises(InputError, match=r"--thresholds must be numbers.* got nowhere.txt"):
        map_options(chosen)


def test_as_a_module(folder):
    command = [sys.executable, "-m", "morpheus_core", "predict", *ARGUMENTS, "--out-dir", "out"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "output.fits" in ended.stdout


@pytest.mark.parametrize(("name", "expected"), [("x", 503.0), ("X_IMAGE", 452.0)])
def test_catalog_counts_pixels_as_the_columns_do(folder, name, expected):
    """Those of SExtractor count from 1."""
    other = {"x": "y", "X_IMAGE": "Y_IMAGE"}[name]
    fits.writeto("index.fits", np.arange(60 * 50.0).reshape(60, 50))
    (folder / "table.csv").write_text(f"{name},{other}\n3,10\n")
    arguments = ["catalog", "index.fits", "--catalog", "table.csv", "--model", "cli_network:middle"]
    assert main([*arguments, "--window", "3", "--n-classes", "1", "--out", "out.csv"]) == 0
    assert Table.read("out.csv")["class_0"].tolist() == [expected]


def test_columns_are_those_that_can_be_typed(folder, capsys):
    (folder / "table.csv").write_text("x,y\n3,10\n")
    arguments = ["catalog", "image.fits", "--catalog", "table.csv", "--model", "cli_network:middle"]
    assert main([*arguments, "--window", "3", "--n-classes", "1", "--columns", "argmx"]) == 1
    names = "classes, argmax, top, entropy, vector, expected_value, std, mode, odds and q0.16"
    assert capsys.readouterr().err == f"morpheus-core: --columns must be of {names}, got argmx\n"


@pytest.mark.parametrize("command", ["catalog", "map"])
def test_damaged_files_are_refused_where_that_is_asked(folder, command, capsys):
    hdu = fits.PrimaryHDU(np.zeros((60, 50), np.float32))
    hdu.writeto("sums.fits", checksum=True)
    content = bytearray((folder / "sums.fits").read_bytes())
    content[3000] ^= 1
    (folder / "sums.fits").write_bytes(content)
    (folder / "table.csv").write_text("x,y\n3,10\n")
    options = {
        "catalog": ["--catalog", "table.csv", "--out", "out.csv", "--window", "3"],
        "map": [*WINDOWS[:-1], "--out-dir", "masks"],
    }[command]
    model = ["--model", "cli_network:make", "--n-classes", "2", "--check-sums", "error"]
    assert main([command, "sums.fits", *model, *options]) == 1
    assert "DATASUM" in capsys.readouterr().err


@pytest.mark.slow
def test_readers_may_stop_early(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((20, 20), np.float32))
    (tmp_path / "early.py").write_text("def make():\n    return lambda batch: batch[0]\n")
    words = ["plan", "a.fits", "--model", "early:make", "--n-classes", "1"]
    words += ["--window", "5", "--out-dir", "out", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "morpheus_core", *words],
        cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def test_products_are_named_as_they_are_typed(tmp_path, capsys):
    fits.writeto(tmp_path / "a.fits", np.zeros((20, 20), np.float32))
    words = f"predict {tmp_path}/a.fits --model x:y --n-classes 1 --window 5 --product clas_map"
    assert main([*words.split(), "--out-dir", str(tmp_path / "out")]) == 1
    assert "must be one of 'mean', 'variance', 'std'" in capsys.readouterr().err
