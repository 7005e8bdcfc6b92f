"""Messages name options as they are typed."""

import logging
import re
import sys
import warnings
from inspect import signature
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))
from test_error_page import MESSAGES

import morpheus_core
from morpheus_core.cli import make_parser, parsers_of
from morpheus_core.commands.wording import Wording, warnings_in_options
from morpheus_core.errors import warn

COMMANDS = parsers_of(make_parser())
FUNCTIONS = {
    "predict": morpheus_core.predict,
    "catalog": morpheus_core.predict_catalog,
    "map": morpheus_core.map_exposures,
}


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("catalog", "edges=\"pad\" or check_sums='warn'", "--edges pad or --check-sums warn"),
        ("predict", "trust_pickle=True, keep=True", "--trust-pickle, keep=True"),
        ("predict", "got cpus=2 and gpus=None", "got --cpus 2 and no --gpus"),
        ("predict", "stride must be >= 1, got (0, 4)", "--stride must be >= 1, got (0, 4)"),
        ("predict", "got stride=(0, 4)", "got --stride 0 4"),
        ("predict", "give one of cpus and executor, got", "give one of --cpus and --dask, got"),
        ("predict", "pass stack_inputs=False", "pass --separate-inputs"),
        ("predict", "fill_nan= of an adapter", "--fill-nan"),
        ("predict", "thresholds must be one number", "--threshold must be one number"),
        ("map", "thresholds must be one number", "--thresholds must be one number"),
        (
            "map",
            "priors and trained_priors need each other",
            "--priors and --trained-priors need each other",
        ),
        ("predict", "max_pixel must be > min_pixel", "MAX of --min-max must be > MIN of --min-max"),
        ("run-strip", "with another out_dir", "with another DIR"),
        ("view", "complete it with resume=True", "complete it with predict --resume"),
        (
            "stitch",
            "begin one there with begin_only=True",
            "begin one there with predict --begin-only",
        ),
        ("predict", "the stride does not divide the image", "the stride does not divide the image"),
        ("predict", "it takes no activation", "it takes no --activation"),
        ("predict", "/tmp/out_dir/n.fits is there", "/tmp/out_dir/n.fits is there"),
    ],
)
def test_arguments_are_options(command, text, expected):
    assert Wording.of(COMMANDS[command])(text) == expected


@pytest.mark.parametrize("command", FUNCTIONS)
def test_no_message_speaks_python(command):
    """What a command has an option for is never called as the function's argument is."""
    wording = Wording.of(COMMANDS[command])
    parameters = signature(FUNCTIONS[command]).parameters
    names = {name for name in parameters if wording(f"{name}=7") != f"{name}=7"}
    compound = "|".join(name for name in names if "_" in name)
    pattern = re.compile(
        rf"(?<![\w./-])(?<!\w\()(?:(?:{'|'.join(names)})=|(?:{compound})\b(?![(\[]))"
    )
    said = {wording(message.replace("…", "7")) for message in MESSAGES}
    assert sorted(text for text in said if pattern.search(text)) == []


def test_what_is_logged_too(capsys):
    with warnings_in_options(Wording.of(COMMANDS["catalog"])):
        logging.getLogger("morpheus_core").warning("one row: %s", "give x= and y= in pixels")
        logging.getLogger("morpheus_core").info("not this")
    said = "morpheus-core: warning: one row: give --x and --y in pixels\n"
    assert capsys.readouterr().err == said


def test_warnings_too(capsys, recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with warnings_in_options(Wording.of(COMMANDS["predict"])):
            warn('use aggregate_method="mean_var"')
            warnings.warn("of another package: cpus=2", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "morpheus-core: warning: use --aggregate mean_var\n"
    assert [str(one.message) for one in recwarn] == ["of another package: cpus=2"]
