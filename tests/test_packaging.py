"""What is handed out: a source archive with everything, and a wheel that works alone."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import require

ROOT = Path(__file__).parent.parent
MEGABYTE = 1_000_000
#: What the README shows.
PICTURES = {
    f"docs/images/{name}"
    for name in (
        "demo.png",
        "pixel_classifier.jpg",
        "photometric_redshifts.png",
        "contaminant_masks.jpg",
    )
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive_and_wheel(tmp_path_factory):
    """The wheel is made from the archive, so what the archive lacks is missing."""
    require("build")
    source, handed_out = (tmp_path_factory.mktemp(name) for name in ("source", "handed-out"))
    made_here = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info", "__pycache__"
    )
    shutil.copytree(ROOT, source, ignore=made_here, dirs_exist_ok=True)
    run(sys.executable, "-m", "build", "--outdir", handed_out, source)
    (archive,), (wheel,) = handed_out.glob("*.tar.gz"), handed_out.glob("*.whl")
    return archive, wheel


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_archive_holds_what_it_takes_to_test_and_document(archive_and_wheel):
    archive, _ = archive_and_wheel
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert names >= {"CHANGES.rst", "LICENSE", "Makefile", "README.rst"}
    assert names >= {"docs/conf.py", "docs/images/demo.png", "tests/conftest.py"}
    assert names >= {"CITATION.cff", "CONTRIBUTING.rst", ".ci/mutants.py", ".travis.yml"}
    assert names >= {".github/workflows/tests.yml", ".github/ISSUE_TEMPLATE/fault.yml"}
    assert archive.stat().st_size < 3 * MEGABYTE


def test_links_and_pictures_lead_somewhere_from_pypi(archive_and_wheel):
    _, wheel = archive_and_wheel
    render = require("readme_renderer.rst").render
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith("dist-info/METADATA")]
        metadata = email.message_from_bytes(file.read(name))
    (source,) = [
        link.partition(", ")[2]
        for link in metadata.get_all("Project-URL")
        if link.startswith("Source, ")
    ]
    shown = render(metadata.get_payload())
    assert shown is not None
    targets = re.findall(r'(?:href|src)="([^"]+)"', shown)
    assert all(re.match("https://|#", target) for target in targets), targets
    ours = [target for target in targets if target.startswith(f"{source}/")]
    paths = [re.sub(rf"{source}/(blob|raw)/HEAD/", "", target) for target in ours]
    assert len(paths) > len(PICTURES)
    assert all((ROOT / path).is_file() for path in paths), paths
    assert {path for path in paths if Path(path).suffix in (".png", ".jpg")} == PICTURES


def test_wheel_alone_runs_the_demo(archive_and_wheel, tmp_path):
    _, wheel = archive_and_wheel
    assert wheel.stat().st_size < MEGABYTE
    run(sys.executable, "-m", "venv", tmp_path / "environment")
    programs = tmp_path / "environment" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel)
    run(programs / "morpheus-core", "demo", "--out-dir", "sky", cwd=tmp_path, env={})
    assert (tmp_path / "sky" / "output.fits").exists()
