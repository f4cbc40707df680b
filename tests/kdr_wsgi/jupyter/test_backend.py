"""The pool of connections, against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tornado.httputil import HTTPHeaders, ResponseStartLine

from kdr_wsgi.jupyter import backend as backend_module
from kdr_wsgi.jupyter.backend import ATTEMPTS, Backend
from kdr_wsgi.jupyter.exchange import Exchange

Handler = Callable[[bytes, StreamWriter], Awaitable[None]]
Result = TypeVar("Result")

LOG = logging.getLogger("test")


class Browser:
    """Takes an answer; with `is_slow`, only when it is told to."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self.status = 0
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.end = ""
        self.is_slow = is_slow
        self.pending: list[Future[None]] = []
        self.over: Future[None] = asyncio.get_running_loop().create_future()

    def write_headers(
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> Future[None]:
        self.status, self.reason = start_line.code, start_line.reason
        self.headers = list(headers.get_all())
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> Future[None]:
        self.body += chunk
        written: Future[None] = asyncio.get_running_loop().create_future()
        if self.is_slow:
            self.pending.append(written)
        else:
            written.set_result(None)
        return written

    def finish(self) -> None:
        self.end = "whole"
        self.is_over()

    def close(self) -> None:
        self.end = "broken off"
        self.is_over()

    def is_over(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


def run(main: Coroutine[None, None, Result]) -> Result:
    async def bounded() -> Result:
        return await asyncio.wait_for(main, 20)

    return asyncio.run(bounded())


@asynccontextmanager
async def served(folder: Path, handler: Handler, connections: int = 4) -> AsyncIterator[tuple[Backend, list[bytes]]]:
    """Run a server; yield a pool for it, and the requests that it gets."""
    requests: list[bytes] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while not writer.is_closing():
                request = await reader.readuntil(b"\r\n\r\n")
                requests.append(request)
                await handler(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    path = str(folder / "s")
    server = await asyncio.start_unix_server(serve, path)
    pool = Backend(lambda: path, lambda: False, connections, LOG)
    try:
        yield pool, requests
    finally:
        pool.close()
        server.close()
        await asyncio.sleep(0.01)


def ask(pool: Backend, target: str = "/a", *, is_head: bool = False, browser: Browser | None = None) -> Browser:
    browser = browser or Browser()
    method = "HEAD" if is_head else "GET"
    request = f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    exchange = Exchange(request, browser, is_head=is_head)
    browser.exchange = exchange  # type: ignore[attr-defined]
    pool.ask(exchange)
    return browser


def answer(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 Fine", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def test_an_answer_arrives_however_it_is_cut(tmp_path: Path) -> None:
    async def byte_by_byte(request: bytes, writer: StreamWriter) -> None:
        for byte in answer(b"x" * 40, b'ETag: "e"', b"Connection: keep-alive"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async def main() -> None:
        async with served(tmp_path, byte_by_byte) as (pool, _):
            browser = ask(pool)
            await browser.over
            assert (browser.status, browser.reason, browser.body, browser.end) == (200, "Fine", b"x" * 40, "whole")
            assert ("ETag", '"e"') in browser.headers
            assert "connection" not in {name.lower() for name, _ in browser.headers}

    run(main())


def test_a_chunked_answer_is_taken_out_of_its_chunks(tmp_path: Path) -> None:
    async def chunked(request: bytes, writer: StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    async def main() -> None:
        async with served(tmp_path, chunked) as (pool, _):
            browser = ask(pool)
            await browser.over
            assert (browser.body, browser.end, browser.headers) == (b"abcde", "whole", [])

    run(main())


def test_head_and_get_follow_each_other_on_one_connection(tmp_path: Path) -> None:
    writers = set()

    async def polite(request: bytes, writer: StreamWriter) -> None:
        writers.add(writer)
        head, _, body = answer(b"body of " + request.split()[1]).partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n" + (b"" if request.startswith(b"HEAD") else body))

    async def main() -> None:
        async with served(tmp_path, polite) as (pool, _):
            for number in range(20):
                browser = ask(pool, f"/{number}", is_head=number % 2 == 0)
                await browser.over
                assert browser.body == (b"" if number % 2 == 0 else b"body of /%d" % number)
                assert ("Content-Length", str(len(f"body of /{number}"))) in browser.headers
            assert len(writers) == 1

    run(main())


def test_more_requests_than_connections_wait_their_turn(tmp_path: Path) -> None:
    busy = most = 0

    async def slow(request: bytes, writer: StreamWriter) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        writer.write(answer(request.split()[1]))

    async def main() -> None:
        async with served(tmp_path, slow, connections=3) as (pool, _):
            browsers = [ask(pool, f"/{number}") for number in range(30)]
            for number, browser in enumerate(browsers):
                await browser.over
                assert browser.body == b"/%d" % number
            assert most == 3

    run(main())


def test_a_reader_that_left_the_queue_is_never_asked_for(tmp_path: Path) -> None:
    gate = asyncio.Event

    async def main() -> None:
        opened = gate()

        async def waiting(request: bytes, writer: StreamWriter) -> None:
            await opened.wait()
            writer.write(answer(request.split()[1]))

        async with served(tmp_path, waiting, connections=1) as (pool, requests):
            first, left, last = (ask(pool, target) for target in ("/first", "/left", "/last"))
            await asyncio.sleep(0.05)
            pool.abandon(left.exchange)  # type: ignore[attr-defined]
            opened.set()
            await last.over
            assert (first.body, last.body, left.status) == (b"/first", b"/last", 0)
            assert [request.split()[1] for request in requests] == [b"/first", b"/last"]

    run(main())


def test_a_reader_that_leaves_in_the_body_ends_the_servers_work(tmp_path: Path) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def endless(request: bytes, writer: StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            try:
                while True:
                    writer.write(bytes(100_000))
                    await writer.drain()
            finally:
                ended.set()

        async with served(tmp_path, endless) as (pool, _):
            browser = ask(pool, browser=Browser(is_slow=True))
            while not browser.body:
                await asyncio.sleep(0.01)
            pool.abandon(browser.exchange)  # type: ignore[attr-defined]
            await ended.wait()

    run(main())


def test_nothing_is_read_before_the_reader_has_taken_what_came(tmp_path: Path) -> None:
    sent = 0

    async def main() -> None:
        async def big(request: bytes, writer: StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            for _ in range(500):
                writer.write(bytes(100_000))
                await writer.drain()
                sent += 100_000

        async with served(tmp_path, big) as (pool, _):
            browser = ask(pool, browser=Browser(is_slow=True))
            await asyncio.sleep(0.3)
            assert len(browser.body) < 300_000
            assert sent < 2_000_000
            while not browser.over.done():
                for written in browser.pending:
                    written.set_result(None)
                browser.pending.clear()
                await asyncio.sleep(0)
            assert (len(browser.body), browser.end) == (50_000_000, "whole")

    run(main())


def test_a_connection_that_ends_before_any_answer_is_tried_again(tmp_path: Path) -> None:
    count = 0

    async def main() -> None:
        async def moody(request: bytes, writer: StreamWriter) -> None:
            nonlocal count
            count += 1
            if count < ATTEMPTS:
                writer.close()
            else:
                writer.write(answer(b"at last"))

        async with served(tmp_path, moody) as (pool, _):
            browser = ask(pool)
            await browser.over
            assert (browser.body, browser.end) == (b"at last", "whole")

    run(main())


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async def rude(request: bytes, writer: StreamWriter) -> None:
            writer.close()

        async with served(tmp_path, rude) as (pool, requests):
            browser = ask(pool)
            await browser.over
            assert (browser.status, browser.end) == (502, "whole")
            assert len(requests) == ATTEMPTS

    run(main())


def test_an_answer_that_breaks_off_is_not_passed_off_as_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async def breaking(request: bytes, writer: StreamWriter) -> None:
            writer.write(answer(b"x" * 1000)[:-1])
            writer.close()

        async with served(tmp_path, breaking) as (pool, requests):
            browser = ask(pool)
            await browser.over
            assert (browser.status, len(browser.body), browser.end) == (200, 999, "broken off")
            assert len(requests) == 1

    run(main())


@pytest.mark.parametrize(
    "garbage", [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"]
)
def test_an_answer_that_is_none_is_a_502(tmp_path: Path, garbage: bytes) -> None:
    async def main() -> None:
        async def babbling(request: bytes, writer: StreamWriter) -> None:
            writer.write(garbage)

        async with served(tmp_path, babbling) as (pool, _):
            browser = ask(pool)
            await browser.over
            assert (browser.status, browser.end) == (502, "whole")

    run(main())


def test_bytes_that_nobody_asked_for_reach_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async def generous(request: bytes, writer: StreamWriter) -> None:
            writer.write(answer(b"asked") + (answer(b"not asked") if b"/first" in request else b""))

        async with served(tmp_path, generous) as (pool, _):
            first = ask(pool, "/first")
            await first.over
            second = ask(pool, "/second")
            await second.over
            assert (first.body, second.body, second.end) == (b"asked", b"asked", "whole")

    run(main())


def test_a_body_that_answers_head_reaches_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async def ignorant(request: bytes, writer: StreamWriter) -> None:
            writer.write(answer(b"body"))

        async with served(tmp_path, ignorant) as (pool, _):
            for is_head in (True, False, True):
                browser = ask(pool, is_head=is_head)
                await browser.over
                assert (browser.status, browser.body, browser.end) == (200, b"" if is_head else b"body", "whole")

    run(main())


def test_an_answer_that_does_not_begin_in_time_is_a_504(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "FIRST_BYTE_SECONDS", 0.1)
    monkeypatch.setattr(backend_module, "WATCH_SECONDS", 0.05)

    async def main() -> None:
        async def hanging(request: bytes, writer: StreamWriter) -> None:
            await asyncio.sleep(5)

        async with served(tmp_path, hanging, connections=1) as (pool, _):
            asked, waiting = ask(pool), ask(pool)
            await asked.over
            await waiting.over
            assert asked.status == 504
            assert waiting.status in (503, 504)

    run(main())


def test_stalled_readers_make_room_for_those_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "STALLED_SECONDS", 0.2)
    monkeypatch.setattr(backend_module, "WATCH_SECONDS", 0.05)

    async def main() -> None:
        async def big(request: bytes, writer: StreamWriter) -> None:
            writer.write(answer(bytes(50_000_000)))
            await writer.drain()

        async with served(tmp_path, big, connections=2) as (pool, _):
            stalled = [ask(pool, browser=Browser(is_slow=True)) for _ in range(2)]
            await asyncio.sleep(0.5)
            assert [browser.end for browser in stalled] == ["", ""], "nobody waits for their connections"
            waiting = ask(pool)
            await waiting.over
            assert (waiting.status, waiting.end) == (200, "whole")
            assert "broken off" in [browser.end for browser in stalled]

    run(main())


class Gone(Browser):
    """A browser whose connection has ended before its answer began."""

    def write(self, chunk: bytes) -> Future[None]:
        self.body += chunk
        written: Future[None] = asyncio.get_running_loop().create_future()
        written.set_exception(ConnectionError())
        return written


def test_nothing_is_sent_on_to_a_reader_that_has_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async def big(request: bytes, writer: StreamWriter) -> None:
            writer.write(answer(bytes(50_000_000)))
            await writer.drain()

        async with served(tmp_path, big) as (pool, _):
            browser = ask(pool, browser=Gone())
            while not browser.exchange.is_over:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            assert len(browser.body) < 1_000_000

    run(main())


def test_a_server_that_does_not_start_is_a_503(tmp_path: Path) -> None:
    async def main() -> None:
        def nowhere() -> str:
            raise OSError("no room")

        for pool in (Backend(nowhere, lambda: False, 4, LOG), Backend(lambda: str(tmp_path), lambda: True, 4, LOG)):
            browser = ask(pool)
            await browser.over
            assert (browser.status, browser.end) == (503, "whole")
            assert ("Retry-After", "5") in browser.headers
            pool.close()

    run(main())
