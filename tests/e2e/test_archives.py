"""Members of archives over the wire, from real servers, and to a client that reads Zarr."""

from __future__ import annotations

import gzip
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.archives import CRC, DEFLATED, SIZE_BYTES, STORED, changed, entry_of, make_zip, write_zip
from tests.conftest import LiveServer, make_settled, need
from tests.raw_http import Connection, fetch

CHANCE = random.Random(3)
SMALL = b"a tile, say " * 50
LARGE = bytes(CHANCE.choices(b"0123456789abcdef", k=3_000_000))
MEMBERS = (
    ("small", SMALL, STORED),
    ("small-packed", SMALL, DEFLATED),
    ("large", LARGE, STORED),
    ("large-packed", LARGE, DEFLATED),
)
BODIES = {name: body for name, body, _ in MEMBERS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "a.zip", *MEMBERS)


@pytest.fixture
def url(server: LiveServer, path: Path) -> str:
    make_settled(path)
    return server.hub.serve_tree(path, visibility="public")


def test_every_server_sends_every_member_whole_and_in_parts(server: LiveServer, url: str) -> None:
    with Connection(server.address) as connection:
        for name, body in [*BODIES.items()] * 2:
            plain = connection.request("GET", url + name)
            assert (plain.status, plain.body == body, plain.is_whole) == (200, True, True)
            packed = connection.request("GET", url + name, {"Accept-Encoding": "gzip"})
            assert (gzip.decompress(packed.body) if "Content-Encoding" in packed else packed.body) == body
            part = connection.request("GET", url + name, {"Range": "bytes=100-2000000"})
            if name == "large-packed":
                assert (part.status, part.body == body, part["Accept-Ranges"]) == (200, True, "none")
            else:
                assert (part.status, part.body == body[100:2_000_001]) == (206, True)
            several = connection.request("GET", url + name, {"Range": "bytes=0-0,400-401"})
            assert several.status == (200 if name == "large-packed" else 206)
            head = connection.request("HEAD", url + name)
            assert (head.status, head["Content-Length"], head.body) == (200, str(len(body)), b"")
            tagged = connection.request("GET", url + name, {"If-None-Match": packed["ETag"], "Accept-Encoding": "gzip"})
            assert tagged.status == 304


@pytest.mark.parametrize("field", [(CRC, 1), (SIZE_BYTES, len(LARGE) + 5)])
def test_a_damaged_member_never_arrives_as_if_it_were_whole(
    server: LiveServer, tmp_path: Path, field: tuple[tuple[int, str], int]
) -> None:
    path = tmp_path / "bad.zip"
    archive = make_zip(MEMBERS)
    path.write_bytes(changed(archive, entry_of(archive, "large-packed"), *field))
    make_settled(path)
    url = server.hub.serve_tree(path, visibility="public")
    answer = fetch(server.address, url + "large-packed")
    assert (answer.status, answer.is_whole) == (200, False)
    # Who takes gzip gets the checksum along, and finds out.
    packed = fetch(server.address, url + "large-packed", {"Accept-Encoding": "gzip"})
    with pytest.raises((OSError, zlib.error)):
        gzip.decompress(packed.body)
    assert fetch(server.address, url + "small").body == SMALL


def test_an_archive_that_shrinks_while_it_is_sent_ends_the_connection(server: LiveServer, tmp_path: Path) -> None:
    body = os.urandom(30_000_000)
    path = write_zip(tmp_path / "a.zip", ("stored", body, STORED), ("packed", body, DEFLATED))
    make_settled(path)
    url = server.hub.serve_tree(path, visibility="public")
    with Connection(server.address) as connection:
        connection.send("GET", url + "packed", {"Accept-Encoding": "gzip"})
        time.sleep(0.3)
        os.truncate(path, 30_100_000)
        assert not connection.receive().is_whole


def test_readers_see_the_old_archive_or_the_new_one_and_nothing_between(server: LiveServer, tmp_path: Path) -> None:
    """It is replaced all the time while many read."""
    path = tmp_path / "a.zip"
    versions = [bytes([65 + number]) * 100_000 for number in range(6)]

    def replace(number: int) -> None:
        # In each version the member is elsewhere, and packed otherwise.
        filling = ("0" * (number + 1), b"x" * 1000 * number, STORED)
        draft = write_zip(tmp_path / "draft", filling, ("member", versions[number], (STORED, DEFLATED)[number % 2]))
        draft.replace(path)

    replace(0)
    make_settled(path)
    url = server.hub.serve_tree(path, visibility="public")
    ends_at = time.monotonic() + 3

    def read(_: int) -> int:
        seen = set()
        with Connection(server.address) as connection:
            while time.monotonic() < ends_at:
                answer = connection.request("GET", url + "member")
                assert answer.status in (200, 503), answer
                if answer.status == 200:
                    assert answer.body in versions
                    seen.add(answer.body)
        return len(seen)

    with ThreadPoolExecutor(3) as readers:
        counts = readers.map(read, range(3))
        number = 0
        while time.monotonic() < ends_at:
            number = (number + 1) % len(versions)
            replace(number)
            time.sleep(0.05)
        assert max(counts) > 1
    last = fetch(server.address, url + "member")
    assert (last.status, last.body == versions[number]) == (200, True)


def test_a_member_behind_four_gib_of_another_is_read_by_range(server: LiveServer, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    size_bytes = (4 << 30) + 1000
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        # A hole of 4 GiB, in place of which zipfile would write zeros for some seconds.
        info = zipfile.ZipInfo("hole")
        with archive.open(info, "w", force_zip64=True):
            pass
        file = archive.fp
        assert file is not None
        start = file.tell()
        file.seek(start + size_bytes - 4)
        file.write(b"last")
        info.file_size = info.compress_size = size_bytes
        archive.start_dir = file.tell()  # Where the next member goes.
        archive.writestr("behind", SMALL)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("behind").header_offset > 1 << 32
    make_settled(path)
    url = server.hub.serve_tree(path, visibility="public")
    assert fetch(server.address, url + "behind").body == SMALL
    assert fetch(server.address, url + "hole", {"Range": "bytes=-4"}).body == b"last"
    part = fetch(server.address, url + "hole", {"Range": f"bytes={size_bytes - 5}-"})
    assert (part.status, part.body) == (206, b"\0last")
    assert part["Content-Range"] == f"bytes {size_bytes - 5}-{size_bytes - 1}/{size_bytes}"
    assert fetch(server.address, url + "hole", method="HEAD")["Content-Length"] == str(size_bytes)


def test_seventy_thousand_members_cost_a_worker_no_memory(start_server: Callable[..., LiveServer]) -> None:
    server = start_server(worker_class="gunicorn")
    path = server.folder / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{number % 100}/{number}"), struct.pack("<L", number))
    make_settled(path)
    few = write_zip(server.folder / "few.zip", *MEMBERS)
    make_settled(few)
    fetch(server.address, server.hub.serve_tree(few, visibility="public") + "small")
    before = private_bytes(server)
    url = server.hub.serve_tree(path, visibility="public")
    with Connection(server.address) as connection:
        for number in range(0, 70_000, 700):
            answer = connection.request("GET", f"{url}{number % 100}/{number}")
            assert answer.body == struct.pack("<L", number)
        assert connection.request("GET", url + "7/70000").status == 404
        assert connection.request("GET", url + "7/").body.count(b"<tr data-size=") == 300
    # As objects they would take 20 MB and more.
    assert private_bytes(server) - before < 4 << 20


def private_bytes(server: LiveServer) -> int:
    """Return the memory of the worker that is its own, and no file's."""
    (worker,) = server.workers
    lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def test_a_large_member_is_inflated_in_little_memory(start_server: Callable[..., LiveServer]) -> None:
    server = start_server(worker_class="gunicorn")
    path = write_zip(server.folder / "bomb.zip", ("zeros", bytes(300 << 20), DEFLATED))
    make_settled(path)
    url = server.hub.serve_tree(path, visibility="public")
    assert path.stat().st_size < 1 << 20
    fetch(server.address, url)
    before = private_bytes(server)
    answer = fetch(server.address, url + "zeros")
    assert (answer.is_whole, len(answer.body)) == (True, 300 << 20)
    assert private_bytes(server) - before < 8 << 20


ZARR = """
import sys, numpy, zarr
store = zarr.storage.FsspecStore.from_url(sys.argv[1], read_only=True)
array = zarr.open_array(store=store, mode="r")
assert (array[:] == numpy.arange(10_000).reshape(100, 100)).all()
print(array[42, 17])
"""


def test_a_zarr_store_in_a_zip_is_read_by_zarr(start_server: Callable[..., LiveServer], tmp_path: Path) -> None:
    remedy = "pip install zarr aiohttp fsspec"
    need("zarr", is_there=all(map(find_spec, ("zarr", "aiohttp", "fsspec"))), remedy=remedy)
    import numpy
    import zarr

    path = tmp_path / "array.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w") as store:
        array = zarr.create_array(store, shape=(100, 100), chunks=(10, 10), dtype="i8")
        array[:] = numpy.arange(10_000).reshape(100, 100)
    server = start_server(worker_class="gunicorn")
    url = server.hub.serve_tree(path, visibility="public")
    address = "http://{}:{}".format(*server.address)
    told = subprocess.run([sys.executable, "-c", ZARR, address + url], capture_output=True, text=True, check=False)
    assert told.stdout == "4217\n", told.stderr


def test_the_command_publishes_members_with_tree_and_the_archive_without(server: LiveServer, path: Path) -> None:
    kdr = [sys.executable, "-m", "kdr_wsgi", "publish", "--registry", str(server.hub.registry.location)]
    options = [str(path), "--visibility", "public"]
    as_file = subprocess.run([*kdr, *options], capture_output=True, text=True, check=True).stdout.strip()
    as_tree = subprocess.run([*kdr, "--tree", *options], capture_output=True, text=True, check=True).stdout.strip()
    assert fetch(server.address, as_file[as_file.index("/wwtkdr") :]).body == path.read_bytes()
    assert fetch(server.address, as_tree[as_tree.index("/wwtkdr") :] + "small").body == SMALL
    refused = subprocess.run([*kdr, "--tree", __file__], capture_output=True, text=True, check=False)
    assert (refused.returncode, "is no zip archive" in refused.stderr) == (1, True)


def test_a_process_of_few_megabytes_indexes_many_members(tmp_path: Path) -> None:
    """The directory is read a piece at a time."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{number % 100}/{'name' * 20}{number}"), b"")
    program = (
        "import sys, hub, hub.content.archives\n"
        "def peak_kb():\n"
        "    return int(next(line for line in open('/proc/self/status') if 'VmHWM' in line).split()[1])\n"
        "relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url='/')\n"
        "before = peak_kb()\n"
        "relay.serve_tree(sys.argv[2])\n"
        "print(peak_kb() - before)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "kdr" / "registry.sqlite"), str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(told) * 1024 < 60 << 20
