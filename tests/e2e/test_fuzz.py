"""Requests of no sense: each gets an answer that is no 500, or the end of its connection; the server stays as it is.

For a few seconds; ``tox -e fuzz`` takes ten minutes. A request that has
failed once belongs into `FOUND`.
"""

from __future__ import annotations

import errno
import os
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import LiveServer
from tests.raw_http import Connection, fetch

SECONDS = float(os.environ.get("KDR_TEST_FUZZ_SECONDS", "5"))
READERS = 4

#: What a mutation puts in, or in place of something.
TOKENS = (
    *(b"\0", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\x80", b"\xff\xfe", b"%", b"%00", b"%zz", b"%2e%2e%2f"),
    *(
        b"../",
        b"..\\",
        b"//",
        b"./",
        b"?",
        b"#",
        b"%25",
        b"%c0%ae",
        b";",
        b":",
        b",",
        b'"',
        b"W/",
        b"*",
        b"-",
        b"=",
        b"=",
    ),
    *(b"bytes=", b"bytes=0-0,", b"0-", b"-1", b"18446744073709551616", b"9" * 400, b"1e9", b"0x10", b"a" * 9000),
    *(b"Range: bytes=", b"If-Range: ", b"If-None-Match: ", b"If-Match: ", b"If-Modified-Since: ", b"Accept-Encoding: "),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: \r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"X-Forwarded-Host: a b\r\n"),
    *(
        b"HTTP/0.9",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"PRI * HTTP/2.0",
        b"HEAD ",
        b"POST ",
        b"OPTIONS ",
        b"PROXY TCP4 ",
        b"GET http://",
    ),
)

#: Of what was found: nothing yet.
FOUND: tuple[bytes, ...] = ()


def whole_requests(url: str) -> list[bytes]:
    """Return requests that make sense, to begin from."""
    entries = ("a", "large", "table.json", "made.wtml", "folder", "folder/", "", "missing", "n%C3%A4me")
    headers = (
        "",
        "Range: bytes=0-9\r\n",
        "Range: bytes=0-9,20-29,-5\r\n",
        'If-None-Match: "a", W/"b"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n',
        'If-Range: "a"\r\nRange: bytes=5-\r\n',
        "Accept-Encoding: br;q=0.5, gzip, *;q=0\r\nAccept: application/json\r\n",
    )
    return [
        f"{method} {url}{entry} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()
        for method in ("GET", "HEAD")
        for entry in entries
        for header in headers
    ]


def mutate(chance: random.Random, request: bytes) -> bytes:
    """Return the request with some damage."""
    for _ in range(chance.randint(1, 5)):
        start = chance.randint(0, len(request))
        stop = min(len(request), start + chance.choice((0, 1, 1, 2, 8, 40)))
        inserted = chance.choice((b"", bytes([chance.randint(0, 255)]), chance.choice(TOKENS), request[start:stop] * 2))
        request = request[:start] + inserted + request[stop:]
    return request


def ask(address: tuple[str, int], request: bytes) -> bytes:
    """Send the request, and no more, and return all that comes."""
    with Connection(address) as connection:
        received = b""
        try:
            connection.socket.sendall(request)
            connection.socket.shutdown(socket.SHUT_WR)
            while chunk := connection.socket.recv(1 << 20):
                received = (received + chunk)[: 1 << 20]
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):  # The server has had enough.
                raise
    return received


def memory_kb(process: int) -> int:
    """Return what a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]  # it is always there


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("worker_class", ["kdr_wsgi.serving.WatchfulWorker", "granian"])
def test_requests_of_no_sense_break_nothing(
    start_server: Callable[..., LiveServer], tree: Path, worker_class: str
) -> None:
    (tree / "folder").mkdir()
    (tree / "a").write_bytes(b"small")
    (tree / "large").write_bytes(bytes(300_000))
    (tree / "table.json").write_bytes(b'{"a": 1}' * 1000)
    (tree / "made_rel.wtml").write_bytes(b'<Folder Name="x"/>')
    (tree / "n\u00e4me").write_bytes(b"name")
    server = start_server(worker_class=worker_class)
    url = server.hub.serve_tree(tree, "k", visibility="public")
    seeds = whole_requests(url)
    for request in (*FOUND, *seeds):
        assert b" 500 " not in ask(server.address, request)[:20]
    before = {worker: memory_kb(worker) for worker in server.workers}
    statuses: Counter[bytes] = Counter()
    failed: list[str] = []
    until = time.monotonic() + SECONDS

    def send(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until and not failed:
            request = mutate(chance, chance.choice(seeds))
            try:
                answers = ask(server.address, request)
            except TimeoutError:
                failed.append(f"no end after {request!r}")
                return
            found = re.findall(rb"HTTP/1\.[01] (\d\d\d)", answers)
            statuses.update(found[:1] or [b"none"])
            if b"500" in found:
                failed.append(f"500 to {request!r}")

    senders = [threading.Thread(target=send, args=(seed,)) for seed in range(READERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    print({status.decode(): count for status, count in sorted(statuses.items())})
    assert not failed
    assert statuses[b"200"] > 0
    assert fetch(server.address, f"{url}a").body == b"small"
    assert server.workers == [*before]
    for worker, kilobytes in before.items():
        assert memory_kb(worker) < kilobytes + 150_000  # The cache may fill.
