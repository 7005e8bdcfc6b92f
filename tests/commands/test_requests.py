"""What ``run.json`` says of a run makes the same run again."""

import json
import sys

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core.cli import main, parse
from morpheus_core.commands.records import digest_of_data
from morpheus_core.commands.requests import as_json

MODEL = "def make():\n    return lambda batch: (batch[0] > 0).astype('float32')\n"
COMMON = ["--model", "request_network:make", "--class-names", "bright", "--window", "12", "10"]
REQUESTS = {
    "predict": ["a.fits", *COMMON, "--stride", "4", "--fill-value", "-1", "--out-dir", "out",
                "--aggregate", "mean_var", "--no-rows-apart", "--cpus", "1", "--mask-bits=4,8"],
    "catalog": ["a.fits", *COMMON, "--catalog", "t.csv", "--out", "out.csv", "--keep", "x", "y"],
    "map": ["a.fits", *COMMON, "--thresholds", "0.5", "--out-dir", "out", "--skip-blank"],
}  # fmt: skip
RECORDS = {"predict": "out/run.json", "catalog": "out.csv.run.json", "map": "out/run.json"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to stand in, with an image, a catalogue and a module of a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "request_network.py").write_text(MODEL)
    (tmp_path / "t.csv").write_text("x,y\n10,20\n30,40\n")
    fits.writeto("a.fits", np.random.default_rng(0).normal(size=(60, 50)).astype(np.float32))
    yield tmp_path
    sys.modules.pop("request_network", None)


def runs(command):
    """Return what a command is asked for, but for a mask, and in this process."""
    words = " ".join(REQUESTS[command]).replace(" --cpus 1", "").replace(" --mask-bits=4,8", "")
    return [command, *words.split(), "--no-progress"]


@pytest.mark.parametrize("command", REQUESTS)
def test_the_same_again(folder, capsys, command):
    assert main(runs(command)) == 0
    record = json.loads((folder / RECORDS[command]).read_text())
    assert record["command"] == command
    assert record["arguments"]["--window"] == ["12", "10"]
    assert record["inputs"]["a.fits"].startswith("sha256 ")
    assert all(record["outputs"].values())
    assert record["versions"].keys() >= {"morpheus_core", "python", "numpy", "astropy"}
    assert main([command, "--config", RECORDS[command], "--overwrite"]) == 0
    made = capsys.readouterr().out.count(f"the data that {RECORDS[command]} tells of")
    assert made == len(record["outputs"])


@pytest.mark.parametrize("command", REQUESTS)
def test_what_may_be_replaced_is_said_anew(folder, capsys, command):
    assert main(runs(command)) == 0
    assert main([*runs(command), "--overwrite"]) == 0
    record = json.loads((folder / RECORDS[command]).read_text())
    assert not {"--overwrite", "--resume"} & set(record["arguments"])
    capsys.readouterr()
    assert main([command, "--config", RECORDS[command]]) == 1
    assert "overwrite" in capsys.readouterr().err


def stored(folder, command):
    """Write the request of a run that is not run."""
    request = {"command": command, "arguments": as_json(parse([command, *REQUESTS[command]]))}
    (folder / "run.json").write_text(json.dumps({**request, "inputs": {}, "outputs": {}}))


@pytest.mark.parametrize("command", REQUESTS)
def test_every_option_comes_back(folder, command):
    stored(folder, command)
    again = vars(parse([command, "--config", "run.json"]))
    first = vars(parse([command, *REQUESTS[command]]))
    for name in set(first) - {"config", "parser", "run"}:
        np.testing.assert_equal(again[name], first[name], err_msg=name)


def test_what_is_given_replaces_what_was_asked_for(folder):
    stored(folder, "predict")
    again = parse(
        ["predict", "b.fits", "--config", "run.json", "--gpus", "0", "--aggregate", "rank_vote"]
    )
    assert again.inputs == ["b.fits"]
    assert (again.cpus, again.gpus) == (None, ["0"])
    assert again.aggregate == ["rank_vote"]
    assert again.window == (12, 10)


def test_plan_takes_what_predict_was_asked_for(folder):
    stored(folder, "predict")
    assert parse(["plan", "--config=run.json", "--json"]).json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be the run.json of a finished run, got run.json: Expecting"),
        ('{"command": "map"}', "must be the run.json of a finished run, got run.json: 'arguments'"),
        ("[]", "must be the run.json of a finished run"),
        (
            '{"command": "map", "arguments": {}, "inputs": {}, "outputs": {}}',
            "must be of the same command, predict, got run.json of map",
        ),
        (
            '{"command": "predict", "arguments": {"--foo": "1"}, "inputs": {}, "outputs": {}}',
            "run.json asks for --foo, which this version does not know",
        ),
    ],
)
def test_files_that_are_no_requests(folder, capsys, content, message):
    (folder / "run.json").write_text(content)
    assert main(["predict", "--config", "run.json"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*other data than")
def test_options_may_be_left_out_again(folder, capsys):
    assert main(runs("predict")) == 0
    again = ["predict", "--config", "out/run.json", "--out-dir", "again", "--no-progress"]
    assert main([*again, "--unset", "mask-bits", "fill-value", "--unset=--stride"]) == 0
    asked = json.loads((folder / "again" / "run.json").read_text())["arguments"]
    assert (asked["--fill-value"], asked["--stride"]) == ("nan", ["1", "1"])
    assert asked["--window"] == ["12", "10"]
    assert main([*again, "--unset", "nonsense"]) == 1
    said = "morpheus-core: --unset must be options of predict, got nonsense\n"
    assert capsys.readouterr().err == said


def test_what_is_still_required(folder, capsys):
    (folder / "run.json").write_text(
        '{"command": "map", "arguments": {"--window": ["3"]}, "inputs": {}, "outputs": {}}'
    )
    with pytest.raises(SystemExit):
        main(["map", "--config", "run.json", "--model", "a:b"])
    assert "required: FILE|DIRECTORY" in capsys.readouterr().err


@pytest.mark.filterwarnings("always::morpheus_core.MorpheusWarning")
def test_other_inputs_are_told_of(folder, capsys):
    assert main(runs("predict")) == 0
    fits.writeto("a.fits", np.ones((60, 50), np.float32), overwrite=True)
    again = ["predict", "--config", "out/run.json", "--out-dir", "again", "--no-progress"]
    assert main(again) == 0
    said = capsys.readouterr().err
    assert "warning: a.fits is not what it was when out/run.json was written" in said
    assert said.count("other data") == 1
    assert "output.fits: other data than out/run.json tells of; options that differ: none" in said
    record = json.loads((folder / "again" / "run.json").read_text())
    assert record["arguments"]["--out-dir"] == "again"


@pytest.mark.filterwarnings("always::morpheus_core.MorpheusWarning")
def test_options_that_make_the_difference_are_told(folder, capsys):
    assert main(runs("predict")) == 0
    again = ["predict", "--config", "out/run.json", "--out-dir", "again", "--stride", "5"]
    assert main([*again, "--no-progress"]) == 0
    assert "options that differ: --stride; versions that differ: none" in capsys.readouterr().err


def test_data_are_compared_not_headers(tmp_path):
    def write(name, pixels):
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels), fits.ImageHDU(pixels)]
        hdus[0].header["DATE"] = name
        hdus[1].add_datasum()
        fits.HDUList(hdus).writeto(tmp_path / name)
        return digest_of_data(tmp_path / name)

    assert write("one.fits", np.zeros((3, 4))) == write("two.fits", np.zeros((3, 4)))
    assert write("three.fits", np.eye(3)) != digest_of_data(tmp_path / "one.fits")


def test_keys_of_storage_are_not_written(folder):
    given = [*REQUESTS["predict"], "--storage-options", '{"secret": "open"}']
    assert "open" not in json.dumps(as_json(parse(["predict", *given])))
