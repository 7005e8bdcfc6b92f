"""Which file systems several machines may have."""

import pytest

from morpheus_core.storage import file_systems
from morpheus_core.storage.file_systems import is_shared, kind_of

LINES = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / {0}/home rw - nfs4 server:/home rw
31 30 0:41 / {0}/home/scratch\\040two rw master:2 - lustre mgs@tcp:/scratch rw
32 22 0:42 / {0}/over rw - ext4 /dev/sdb rw
33 32 0:43 / {0}/over rw - fuse.glusterfs gluster:/volume rw
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    listing = tmp_path / "mountinfo"
    listing.write_text(LINES.format(tmp_path))
    monkeypatch.setattr(file_systems, "MOUNTS", listing)
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("elsewhere", "ext4"),
        ("home", "nfs4"),
        ("home/me/results", "nfs4"),
        ("homely", "ext4"),
        ("home/scratch two/results", "lustre"),
        ("over/there", "fuse.glusterfs"),
    ],
)
def test_the_nearest_mount_counts(mounts, folder, kind):
    assert kind_of(mounts / folder) == kind
    assert is_shared(mounts / folder) == (kind != "ext4")


def test_links_are_followed(mounts):
    (mounts / "home").mkdir()
    (mounts / "link").symlink_to(mounts / "home")
    assert kind_of(mounts / "link" / "results") == "nfs4"


def test_what_is_not_known_may_be_shared(mounts, monkeypatch):
    monkeypatch.setattr(file_systems, "MOUNTS", mounts / "none")
    assert kind_of(mounts) == "unknown"
    assert is_shared(mounts)
