from __future__ import annotations

from pathlib import Path

import pytest

from hub.filesystems import holds_files, shares_memory

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime - nfs4 server:/home rw
31 30 0:41 / /home/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:42 / /mnt rw - tmpfs tmpfs rw
33 22 0:43 / /mnt rw - fuse.sshfs host:/ rw
34 22 0:44 / /scratch rw - lustre mds:/scratch rw
"""


@pytest.mark.parametrize(
    ("directory", "shares"),
    [
        ("/", True),
        ("/opt/x", True),
        ("/home/ada/kdr", False),
        ("/homestead", True),
        ("/home/local disk/kdr", True),
        ("/mnt/x", False),
        ("/scratch", False),
    ],
)
def test_the_deepest_and_latest_mount_decides(tmp_path: Path, directory: str, shares: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert shares_memory(Path(directory), table) is shares


def test_where_nobody_tells_the_safe_answer_is_no(tmp_path: Path) -> None:
    assert not shares_memory(tmp_path, tmp_path / "no such table")


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        (b"/proc", False),
        (b"/proc/self/environ", False),
        (b"/sys/kernel", False),
        (b"/dev", False),
        (b"/dev/shm", True),
        (b"/dev/shm/cubes/a.fits", True),
        (b"/dev/shmem", False),
        (b"/processed", True),
        (b"/", True),
    ],
)
def test_processes_and_devices_are_no_files(path: bytes, holds: bool) -> None:
    assert holds_files(path) is holds
