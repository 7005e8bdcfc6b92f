"""Packages say what a network needs, refuse other sky, and answer as when they were packed."""

import dataclasses
import gc
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require
from sky_headers import sky_header

from morpheus_core import (
    InputError,
    ModelError,
    MorpheusWarning,
    OutputError,
    adapters,
    map_exposures,
    packages,
    predict,
    predict_catalog,
    update_maps,
)
from morpheus_core.cli import main, parse
from morpheus_core.commands import windows
from morpheus_core.commands.models import complete
from morpheus_core.commands.package import description_of
from morpheus_core.demo.network import WEIGHTS_PATH, DemoNetwork
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, simulate_sky
from morpheus_core.packages import schema

DOCS = Path(__file__).parents[2] / "docs"
SIZE = 24


class Brightest:
    """Scores two classes of each pixel by numbers in a file."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, batch):
        scale = float(np.load(self.weights)["scale"])
        pixels = 1 / (1 + np.exp(-scale * batch[0]))
        return np.concatenate([pixels, 1 - pixels], axis=-1).astype(np.float32)


DESCRIPTION = {
    "name": "brightest",
    "version": "1.2",
    "network": {"factory": "test_model_packages:Brightest"},
    "windows": {"shape": [8, 8], "batch_size": 4, "crop": 1},
    "bands": [{"name": "g", "filters": ["GREEN", "G2"], "unit": "electron / s"}],
    "sky": {"pixel_scale": 0.06, "tolerance": 0.02},
    "classes": {"names": ["bright", "dark"], "priors": [0.5, 0.5]},
}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, scale=2.0)
    return path


@pytest.fixture(params=["package", "package.zip"])
def package(tmp_path, weights, request):
    return packages.new_package(tmp_path / request.param, weights, DESCRIPTION, trust_code=True)


def changed(table, value, *keys):
    """Return a description with another value, or without one."""
    copy = json.loads(json.dumps(table))
    within = copy
    for key in keys[:-1]:
        within = within[key]
    if value is None:
        del within[keys[-1]]
    else:
        within[keys[-1]] = value
    return copy


def image(scale=0.06, **cards):
    header = sky_header(((-scale / 0.06, 0), (0, scale / 0.06)))
    header.update(cards)
    pixels = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)
    return fits.ImageHDU(pixels, header)


def run(model, images, *arguments, **options):
    hduls, arrays = predict(
        model, images, *arguments, stride=(4, 4), aggregate_method="mean_var", progress=False,
        **options,
    )  # fmt: skip
    header = hduls[0][0].header if hduls else None
    result = np.array(arrays[0])
    for hdul in hduls:
        hdul.close()
    return result, header


def test_border_is_kept_where_the_package_says_so(tmp_path, weights):
    description = changed(DESCRIPTION, True, "windows", "keep_border")
    folder = packages.new_package(tmp_path / "kept", weights, description, trust_code=True)
    kept = update_maps.centre_crop((8, 8), 1, keep_border=True)
    expected, _ = run(Brightest(weights), image(), 2, 4, (8, 8), update_map=kept)
    np.testing.assert_array_equal(run(folder, image())[0], expected)
    assert np.isfinite(expected).all()


def test_an_option_keeps_the_border_that_a_package_names(tmp_path, weights):
    path = str(tmp_path / "package.zip")
    packages.new_package(path, weights, DESCRIPTION, trust_code=True)
    arguments = parse(["predict", "a.fits", "--model", path, "--keep-border", "--out-dir", "out"])
    complete(arguments)
    kept = update_maps.centre_crop((8, 8), 1, keep_border=True)
    np.testing.assert_array_equal(windows.update_map(arguments), kept)


@pytest.mark.filterwarnings("ignore:.*reached by no window")
def test_what_is_left_out_is_what_the_package_says(package, weights):
    inner = update_maps.centre_crop((8, 8), 1)
    expected, _ = run(Brightest(weights), image(), 2, 4, (8, 8), update_map=inner)
    found, header = run(package, image())
    np.testing.assert_array_equal(found, expected)
    assert header["WINDOW"] == "8 x 8"
    assert [header["CLASS0"], header["CLASS1"]] == ["bright", "dark"]
    assert header["MODEL"].startswith("PackagedModel(path=")
    with pytest.raises(InputError, match=r"expected|batch_size"):
        run(package, image(), 2, 0)


@pytest.mark.filterwarnings("ignore:.*reached by no window")
def test_folder_and_zip_have_one_digest(tmp_path, weights):
    names = "package", "package.zip"
    made = [
        packages.new_package(tmp_path / name, weights, DESCRIPTION, trust_code=True)
        for name in names
    ]
    sums = {run(package, image())[1]["MODELSUM"] for package in made}
    assert len(sums) == 1
    with zipfile.ZipFile(tmp_path / "within.zip", "w") as archive:
        for file in (tmp_path / "package").iterdir():
            archive.write(file, f"some folder/{file.name}")
    within = packages.load_package(tmp_path / "within.zip", trust_code=True)
    assert run(within, image())[1]["MODELSUM"] in sums


@pytest.mark.parametrize("left_out", ["n_classes", "batch_size", "window_shape"])
def test_without_a_package_they_must_be_given(left_out, weights, tmp_path):
    given = {"n_classes": 2, "batch_size": 4, "window_shape": (8, 8)}
    del given[left_out]
    message = f"{left_out} must be given: only a model package says"
    with pytest.raises(InputError, match=message):
        predict(Brightest(weights), image(), **given)
    with pytest.raises(InputError, match=message):
        predict_catalog(Brightest(weights), image(), Table({"x": [3.0], "y": [3.0]}), **given)
    with pytest.raises(InputError, match=message):
        map_exposures(Brightest(weights), tmp_path, **given)


WRONG = [
    (image(0.39), r"pixels of 0.06 arc seconds, within 2%, got 0.39 in"),
    (image(0.0625), "got 0.0625"),
    (image(FILTER="RED"), r"band g of the package brightest is filter GREEN or G2, got RED in"),
    (image(FILTER1="CLEAR2L", FILTER2="RED"), "got CLEAR2L RED"),
    (image(BUNIT="mJy"), r"in units of electron / s, got mJy"),
    ([image(), image()], r"takes 1 bands, g, got 2"),
]


@pytest.mark.filterwarnings("ignore:.*reached by no window")
@pytest.mark.parametrize(("images", "message"), WRONG)
def test_other_sky_is_refused(package, images, message):
    with pytest.raises(InputError, match=message):
        run(package, images)
    if isinstance(images, list):
        return
    with pytest.warns(MorpheusWarning, match=message):
        warned, _ = run(package, images, check_sky="warn")
    ignored, _ = run(package, images, check_sky="ignore")
    np.testing.assert_array_equal(warned, ignored)


@pytest.mark.filterwarnings("ignore:.*reached by no window")
@pytest.mark.parametrize(
    "images",
    [
        image(0.061),
        image(FILTER="green", BUNIT="ELECTRON/S"),
        image(FILTER1="CLEAR2L", FILTER2="G2", BUNIT="electron s-1"),
        np.zeros((SIZE, SIZE)),
    ],
)
def test_what_agrees_or_is_not_known_passes(package, images):
    run(package, images)


def test_other_sky_is_refused_for_catalogues(package, tmp_path):
    table = Table({"x": [12.0], "y": [12.0]})
    found = predict_catalog(package, image(), table, progress=False)
    assert found.colnames == ["x", "y", "bright", "dark", "status"]
    with pytest.raises(InputError, match=r"pixels of 0.06 arc seconds"):
        predict_catalog(package, image(0.39), table, progress=False)
    image(0.39).writeto(tmp_path / "a.fits")
    table["name"] = ["a"]
    template = str(tmp_path / "{name}.fits")
    with pytest.raises(InputError, match=r"pixels of 0.06 arc seconds"):
        predict_catalog(package, template, table, progress=False)
    predict_catalog(package, template, table, progress=False, check_sky="ignore")


@pytest.mark.filterwarnings("ignore:.*reached by no window")
def test_other_sky_is_refused_for_exposures(package, tmp_path):
    for name, scale in (("good", 0.06), ("other", 0.39)):
        image(scale).writeto(tmp_path / f"{name}.fits")
    paths = [tmp_path / "good.fits", tmp_path / "other.fits"]
    options = {"progress": False, "padding": "reflect", "priors": [0.1, 0.9]}
    good, other = map_exposures(package, paths, out_dir=tmp_path / "masks", **options)
    assert good.error is None
    header = fits.getheader(good.output, 1)
    assert [header["CLASS0"], header["CLASS1"]] == ["bright", "dark"]
    assert "pixels of 0.06 arc seconds" in str(other.error)
    (ignored,) = map_exposures(
        package, paths[1], out_dir=tmp_path / "ignored", check_sky="ignore", **options
    )
    assert ignored.error is None


REFUSED = [
    ("schema must be 1, the one that .* got 2", 2, "schema"),
    ("may have the keys schema, name, .* got colour", "red", "colour"),
    ("windows may have the keys shape, .* got size", 8, "windows", "size"),
    ("must have the key name, which is missing", None, "name"),
    ("windows must have the key shape, which is missing", None, "windows", "shape"),
    ("windows.batch_size must be a whole number", 0, "windows", "batch_size"),
    ("windows.shape must be two whole numbers", [8], "windows", "shape"),
    ("windows must be a table, got 3", 3, "windows"),
    (
        "windows.keep_border must stand beside windows.crop",
        {"shape": [8, 8], "batch_size": 4, "keep_border": True},
        "windows",
    ),
    ("bands must be at least one table", [], "bands"),
    ("classes.names must be a text", [1], "classes", "names"),
    ("class_names must differ", ["a", "A"], "classes", "names"),
    ("classes.priors must be 2, one per class", [0.1], "classes", "priors"),
    ("classes.priors must be shares between 0 and 1", [0.5, 1], "classes", "priors"),
    ("sky.pixel_scale must be a finite number > 0", 0, "sky", "pixel_scale"),
    ("normalize.kind must be one of", {"kind": "x"}, "network", "normalize"),
    ("takes mean and std, got mean", {"kind": "z_score", "mean": 1}, "network", "normalize"),
    ("used as it is and takes no channels", "last", "network", "channels"),
    ('must be "package.module:name"', "no_such_module:f", "network", "factory"),
]


@pytest.mark.parametrize(("message", "value", "keys"), [(m, v, k) for m, v, *k in REFUSED])
def test_descriptions_are_checked(tmp_path, weights, message, value, keys):
    description = changed(DESCRIPTION, value, *keys)
    with pytest.raises(InputError, match=message):
        packages.new_package(tmp_path / "package", weights, description, trust_code=True)
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("name", ["../weights.npz", "/etc/passwd", "a/b", "..", "a\\\\b"])
def test_files_lie_in_the_package(tmp_path, weights, name):
    packages.new_package(tmp_path / "package", weights, DESCRIPTION, trust_code=True)
    card = tmp_path / "package" / "model.toml"
    card.write_text(card.read_text().replace('"weights.npz"', f'"{name}"'))
    with pytest.raises(InputError, match=r"network.weights must be a file beside model.toml"):
        packages.load_package(tmp_path / "package", trust_code=True)


def test_other_weights_are_refused(tmp_path, weights):
    packages.new_package(tmp_path / "package", weights, DESCRIPTION, trust_code=True)
    np.savez(tmp_path / "package" / "weights.npz", scale=3.0)
    with pytest.raises(InputError, match=r"must have the sha256 that model.toml says"):
        packages.load_package(tmp_path / "package", trust_code=True)
    (tmp_path / "package" / "weights.npz").unlink()
    with pytest.raises(InputError, match=r"must hold what its model.toml names"):
        packages.load_package(tmp_path / "package", trust_code=True)


def test_what_was_unpacked_is_removed(tmp_path, weights, monkeypatch):
    packages.new_package(tmp_path / "package.zip", weights, DESCRIPTION, trust_code=True)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    package = packages.load_package(tmp_path / "package.zip", trust_code=True)
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    del package
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_is_no_package(tmp_path):
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a/model.toml", "b/model.toml"):
            archive.writestr(name, "")
    for name, message in (("empty", "got 0"), ("two.zip", "got 2"), ("none.zip", "or a zip file")):
        with pytest.raises(InputError, match=message):
            packages.load_package(tmp_path / name)
    (tmp_path / "empty" / "model.toml").write_text("schema = ")
    with pytest.raises(InputError, match=r"model.toml must be TOML"):
        predict(tmp_path / "empty", image())


def test_adapters_say_where_a_package_belongs(package):
    with pytest.raises(InputError, match="it is a model package: pass its path to predict"):
        adapters.load_model(package.path)


def test_code_of_a_package_needs_trust(package):
    with pytest.raises(InputError, match=r"runs code of test_model_packages:Brightest"):
        predict(package.path, image())
    with pytest.raises(OutputError, match="remove it or pass another path"):
        packages.new_package(package.path, package.path, DESCRIPTION)


def test_the_stored_answer_is_compared(package, weights):
    outcome = packages.check_package(package)
    assert (outcome.windows, outcome.difference) == (4, 0)
    folder = weights.parent / "other"
    np.savez(weights, scale=2.001)
    other = packages.new_package(folder, weights, DESCRIPTION, trust_code=True)
    (folder / "test.npz").write_bytes(stored_test(package))
    with pytest.raises(ModelError, match=r"within 0.0001 of the stored scores, got a difference"):
        packages.check_package(other)
    (folder / "test.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="must hold windows_0"):
        packages.check_package(other)


def stored_test(package):
    if package.path.is_dir():
        return (package.path / "test.npz").read_bytes()
    with zipfile.ZipFile(package.path) as archive:
        return archive.read("test.npz")


def demo_package(path, images=None):
    description = {
        "name": "demo",
        "network": {"factory": "morpheus_core.demo.network:DemoNetwork"},
        "windows": {"shape": [40, 40], "batch_size": 32},
        "bands": [{"name": name} for name in BANDS],
        "classes": {"names": list(CLASS_NAMES)},
    }
    return packages.new_package(path, WEIGHTS_PATH, description, images, trust_code=True)


def test_the_network_of_the_demo(tmp_path, capsys):
    bands = simulate_sky((48, 64), seed=2).images
    path = tmp_path / "demo.zip"
    package = demo_package(path, list(bands))
    by_hand, _ = run(DemoNetwork(), bands, 5, 32, (40, 40))
    np.testing.assert_array_equal(run(package, bands)[0], by_hand)
    in_workers, _ = run(package, bands, out_dir=tmp_path / "out", cpus=2)
    np.testing.assert_array_equal(in_workers, by_hand)
    assert main(["model", "test", str(path), "--trust-pickle"]) == 0
    assert "4 windows, the answer differs by 0" in capsys.readouterr().out
    assert main(["model", "show", str(path)]) == 0
    assert 'name = "demo"' in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*reached by no window")
def test_the_published_network_on_goods(data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(data / "morpheus"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import morpheus_callable

    place = slice(100, 148), slice(90, 146)
    filters = {"h": "F160W", "j": "F125W", "v": "F606W", "z": "F850LP"}

    def goods(scale=0.06):
        header = sky_header(((-scale / 0.06, 0), (0, scale / 0.06)))
        for band, name in filters.items():
            pixels = fits.getdata(data / "goodss" / f"{band}.fits")[place]
            yield fits.ImageHDU(pixels, fits.Header({**header, "FILTER": name}))

    description = {
        "name": "Morpheus",
        "doi": "10.3847/1538-4365/ab8868",
        "network": {"factory": "morpheus_callable:Morpheus"},
        "windows": {"shape": [40, 40], "batch_size": 16, "crop": 5},
        "bands": [{"name": band, "filters": [name]} for band, name in filters.items()],
        "sky": {"pixel_scale": 0.06},
        "classes": {"names": morpheus_callable.CLASSES},
    }
    weights = data / "morpheus" / "morpheus_model440_weights.npz"
    path = tmp_path / "morpheus.zip"
    package = packages.new_package(path, weights, description, list(goods()), trust_code=True)
    inner = update_maps.centre_crop((40, 40), 5)
    by_hand, _ = run(morpheus_callable.Morpheus(), list(goods()), 5, 16, (40, 40), update_map=inner)
    np.testing.assert_array_equal(run(package, list(goods()))[0], by_hand)
    assert main(["model", "test", str(path), "--trust-pickle"]) == 0
    with pytest.raises(InputError, match=r"pixels of 0.06 arc seconds, within 5%, got 0.39 in"):
        run(package, list(goods(0.39)))
    with pytest.raises(InputError, match=r"band h of the package Morpheus is filter F160W"):
        run(package, list(goods())[::-1])


@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_the_command_packs_networks_of_pytorch(tmp_path, capsys, monkeypatch, kind):
    torch = require("torch")
    from exported_networks import UNet

    monkeypatch.chdir(tmp_path)
    network = UNet().eval()
    if kind == "pt2":
        shown = (torch.zeros(2, 4, 16, 16),)
        exported = torch.export.export(network, shown, dynamic_shapes=({0: torch.export.Dim.AUTO},))
        torch.export.save(exported, "net.pt2")
        made_by = []
    else:
        torch.save(network.state_dict(), "net.pt")
        made_by = ["--factory", "exported_networks:UNet", "--trust-pickle"]
    images = [f"{band}.fits" for band in "abcd"]
    for name, one in zip(images, simulate_sky((20, 40), seed=1).images, strict=True):
        fits.writeto(name, one)
    command = ["model", "new", "net.zip", "--model", f"net.{kind}", *made_by, "--standardize"]
    command += ["--activation", "softmax", "--window", "16", "--bands", *"abcd", "--class-names"]
    assert main([*command, *"vwxyz", "--images", *images]) == 0
    assert "sha256" in capsys.readouterr().out
    trust = made_by[-1:]
    assert main(["model", "test", "net.zip", *trust]) == 0
    assert "4 windows" in capsys.readouterr().out
    predicted = ["predict", *images, "--model", "net.zip", *trust, "--stride", "8", "--no-progress"]
    assert main([*predicted, "--out-dir", "out"]) == 0
    assert fits.getheader("out/output.fits")["CLASS4"] == "z"
    capsys.readouterr()
    assert main([*predicted, "--out-dir", "other", "--activation", "softmax"]) == 1
    assert "a model package says itself what its activation is" in capsys.readouterr().err


def test_options_name_filters():
    words = ["model", "new", "a.zip", "--model", "a:b", "--window", "8", "--class-names", "x", "y"]
    words += ["--bands", "g", "r", "--filters"]
    bands = description_of(parse([*words, "G2", "R"]))["bands"]
    assert bands == [{"name": "g", "filters": ["G2"]}, {"name": "r", "filters": ["R"]}]
    with pytest.raises(InputError, match="--filters must be one for each of the bands g r, got G2"):
        description_of(parse([*words, "G2"]))


def keys_of(kind, name=""):
    """Yield the keys of a table and of the tables in it, as the page calls them."""
    for field in dataclasses.fields(kind):
        within = TABLES.get(field.name)
        if within is None:
            yield f"{name}{field.name}"
        else:
            yield from keys_of(within, f"{field.name}.")


TABLES = {
    "network": schema.NetworkTable,
    "normalize": schema.Normalization,
    "windows": schema.WindowTable,
    "bands": schema.Band,
    "sky": schema.SkyTable,
    "classes": schema.ClassTable,
    "test": schema.TrialTable,
}


def test_the_page_has_every_key_and_a_description_that_is_read():
    page = (DOCS / "model_packages.rst").read_text()
    for key in keys_of(schema.Card):
        assert f"{key}``" in page, key
    card = schema.read_card((DOCS / "model_package.toml").read_bytes(), "model.toml")
    assert [band.name for band in card.bands] == ["h", "z"]
    assert card.network.options()["normalize"].scale == (12, 11)


@pytest.mark.slow
def test_packages_travel_to_workers(tmp_path):
    bands = simulate_sky((48, 64), seed=2).images
    package = demo_package(tmp_path / "demo.zip")
    table = Table({"x": [20.0, 40.0], "y": [22.0, 24.0]})
    answers = [
        predict_catalog(package, list(bands), table, progress=False, **options)
        for options in ({}, {"out": tmp_path / "answers.ecsv", "cpus": 2})
    ]
    for name in CLASS_NAMES:
        np.testing.assert_array_equal(answers[0][name], answers[1][name])
    grey = {**DESCRIPTION, "windows": {"shape": [8, 8], "batch_size": 4}}
    np.savez(tmp_path / "weights.npz", scale=2.0)
    one = packages.new_package(tmp_path / "one", tmp_path / "weights.npz", grey, trust_code=True)
    image().writeto(tmp_path / "a.fits")
    masks = [
        map_exposures(one, tmp_path / "a.fits", out_dir=tmp_path / f"masks {cpus}", cpus=cpus)
        for cpus in (None, 2)
    ]
    serial, parallel = (fits.getdata(outcome.output, 1) for (outcome,) in masks)
    np.testing.assert_array_equal(serial, parallel)
