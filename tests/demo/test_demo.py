"""The demonstration: its sky, its network, its picture, and the command that runs it."""

import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import OutputError, __version__
from morpheus_core.cli import main
from morpheus_core.demo import run
from morpheus_core.demo.network import WEIGHTS_PATH, WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, NOISE_SIGMA, simulate_sky

SMALL = {"shape": (48, 56), "stride": (8, 16), "progress": False}
FILES = {*run.INPUT_NAMES, *run.OUTPUT_NAMES}


def windows_of(sky):
    """Cut a sky into windows side by side, one (batch, height, width, 1) array per band."""
    height, width = WINDOW_SHAPE
    batch = []
    for image in sky.images:
        rows, columns = image.shape[0] // height, image.shape[1] // width
        tiles = image.reshape(rows, height, columns, width).swapaxes(1, 2)
        batch.append(tiles.reshape(-1, height, width, 1))
    return batch


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo") / "new" / "folder"
    return directory, run.run_demo(directory, stride=(20, 20), progress=False)


class TestSky:
    def test_same_seed_same_sky(self):
        first, second = simulate_sky((40, 50), seed=5), simulate_sky((40, 50), seed=5)
        assert_array_equal(first.images, second.images)
        assert_array_equal(first.truth, second.truth)
        assert first.header == second.header

    def test_other_seed_other_sky(self):
        first, second = simulate_sky((40, 50), seed=5), simulate_sky((40, 50), seed=6)
        assert not np.array_equal(first.images, second.images)

    def test_shapes_and_dtypes(self):
        sky = simulate_sky((40, 50), seed=5)
        assert sky.bands == BANDS
        assert [(i.shape, i.dtype) for i in sky.images] == [((40, 50), np.float32)] * len(BANDS)
        assert (sky.truth.shape, sky.truth.dtype) == ((40, 50), np.uint8)

    def test_every_class_is_there(self):
        classes, pixels = np.unique(
            simulate_sky((256, 256), seed=run.SEED).truth, return_counts=True
        )
        assert classes.tolist() == list(range(len(CLASS_NAMES)))
        assert pixels.argmax() == CLASS_NAMES.index("background")

    def test_background_is_noise_of_the_stated_depth(self):
        sky = simulate_sky((256, 256), seed=1)
        empty = sky.truth == CLASS_NAMES.index("background")
        for image, sigma in zip(sky.images, NOISE_SIGMA, strict=True):
            below = image[empty & (image < 0)]
            assert_allclose(np.sqrt(np.mean(below**2)), sigma, rtol=0.05)

    def test_header_says_where_it_is(self):
        wcs = WCS(simulate_sky((40, 50), seed=1).header)
        assert wcs.has_celestial
        assert_allclose(wcs.proj_plane_pixel_scales()[0].to_value("arcsec"), 0.06)
        assert_allclose(wcs.wcs_pix2world([[24.5, 19.5]], 0)[0], wcs.wcs.crval)


class TestNetwork:
    def test_returns_probabilities(self):
        batch = windows_of(simulate_sky((40, 120), seed=2))
        probabilities = DemoNetwork()(batch)
        assert probabilities.shape == (3, *WINDOW_SHAPE, len(CLASS_NAMES))
        assert probabilities.dtype == np.float32
        assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)
        assert probabilities.min() >= 0

    def test_a_window_does_not_know_its_batch(self):
        batch = windows_of(simulate_sky((80, 240), seed=2))
        network = DemoNetwork()
        alone = np.concatenate([network([band[i : i + 1] for band in batch]) for i in range(12)])
        assert_allclose(network(batch), alone, atol=2e-6)

    def test_agrees_with_pytorch(self):
        require("torch")
        from morpheus_core.demo import train

        assert train.largest_difference(WEIGHTS_PATH) < 1e-5

    @pytest.mark.parametrize("called", [False, True])
    def test_survives_pickling(self, called):
        batch = windows_of(simulate_sky((40, 40), seed=2))
        network = DemoNetwork()
        if called:
            network(batch)
        assert_array_equal(pickle.loads(pickle.dumps(network))(batch), network(batch))

    def test_weights_are_few(self):
        assert WEIGHTS_PATH.stat().st_size < 200_000


class TestRun:
    def test_leaves_these_files(self, demo):
        directory, _ = demo
        expected = FILES if find_spec("matplotlib") else FILES - {"demo.png"}
        assert {path.name for path in directory.iterdir()} == expected
        with fits.open(directory / "output.fits") as hduls:
            assert hduls[0].data.shape == (512, 512, len(CLASS_NAMES), 2)
        with fits.open(directory / "n.fits") as hduls:
            assert hduls[0].data.max() == 9  # where the last window moves to the edge

    def test_classes_are_right(self, demo):
        _, assessment = demo
        assert assessment.counts.sum() == 512 * 512
        assert assessment.accuracy > 0.985
        assert dict(zip(CLASS_NAMES, assessment.recall > 0.9, strict=True)) == dict.fromkeys(
            CLASS_NAMES, True
        )
        assert dict(zip(CLASS_NAMES, assessment.purity > 0.9, strict=True)) == dict.fromkeys(
            CLASS_NAMES, True
        )

    def test_inputs_on_disk_are_the_sky(self, demo):
        directory, _ = demo
        sky = simulate_sky((512, 512), run.SEED)
        for band, image in zip(BANDS, sky.images, strict=True):
            assert_array_equal(fits.getdata(directory / f"{band}.fits"), image)
            assert fits.getval(directory / f"{band}.fits", "FILTER") == band
        assert_array_equal(fits.getdata(directory / "truth.fits"), sky.truth)

    def test_refuses_to_replace(self, demo):
        directory, _ = demo
        before = {
            path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.iterdir()
        }
        with pytest.raises(OutputError, match="exists already"):
            run.run_demo(directory)
        after = {
            path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.iterdir()
        }
        assert after == before

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_any_file_is_in_the_way(self, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=name):
            run.run_demo(tmp_path, **SMALL)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "mine"

    def test_overwrites_when_told_to(self, tmp_path):
        (tmp_path / "h.fits").write_text("old")
        (tmp_path / "output.fits").write_text("old")
        run.run_demo(tmp_path, overwrite=True, **SMALL)
        assert fits.getdata(tmp_path / "h.fits").shape == (48, 56)
        assert fits.getdata(tmp_path / "output.fits").shape[:2] == (48, 56)

    def test_says_what_it_did(self, tmp_path, capsys):
        run.run_demo(tmp_path, **SMALL)
        said = capsys.readouterr().out
        assert "48 x 56 pixels" in said
        assert "in 4 overlapping windows" in said
        drawn = set() if find_spec("matplotlib") else {"demo.png"}
        assert all(name in said for name in (*CLASS_NAMES, *(FILES - drawn)))

    def test_without_matplotlib_says_how_to_get_it(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(run, "find_spec", lambda name: None)
        run.run_demo(tmp_path, **SMALL)
        assert 'pip install ".[plot]"' in capsys.readouterr().out
        assert not (tmp_path / "demo.png").exists()

    def test_a_directory_that_cannot_be(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot write to"):
            run.run_demo(tmp_path / "file" / "below", **SMALL)

    def test_classes_that_do_not_occur_have_no_shares(self):
        assessment = run.assess(np.array([[0, 4]], np.uint8), np.array([[1, 4]], np.uint8))
        assert_array_equal(assessment.recall, [0, np.nan, np.nan, np.nan, 1])
        assert_array_equal(assessment.purity, [np.nan, 0, np.nan, np.nan, 1])
        assert assessment.accuracy == 0.5


class TestCommandLine:
    def test_version(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out == f"morpheus-core {__version__}\n"

    @pytest.mark.parametrize("argv", [[], ["nonsense"], ["demo", "--nonsense"]])
    def test_wrong_usage(self, argv, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(argv)
        assert "; see morpheus-core" in capsys.readouterr().err

    def test_runs_the_demo(self, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(run, "run_demo", lambda *arguments: calls.append(arguments))
        assert main(["demo", "--out-dir", str(tmp_path), "--overwrite"]) == 0
        assert calls == [(tmp_path, True)]

    def test_errors_are_one_line(self, tmp_path, capsys):
        (tmp_path / "n.fits").touch()
        assert main(["demo", "--out-dir", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"morpheus-core: {tmp_path / 'n.fits'} exists already")
        assert said.count("\n") == 1

    def test_verbose_errors_have_a_traceback(self, tmp_path, capsys):
        (tmp_path / "n.fits").touch()
        assert main(["demo", "--out-dir", str(tmp_path), "-v"]) == 1
        assert "Traceback" in capsys.readouterr().err

    def test_interrupt(self, monkeypatch, capsys):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "run_demo", interrupted)
        assert main(["demo"]) == 130
        assert capsys.readouterr().err == "morpheus-core: interrupted\n"

    def test_as_a_module(self):
        command = [sys.executable, "-m", "morpheus_core", "--help"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "morpheus-core demo --out-dir" in result.stdout
