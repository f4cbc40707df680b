"""What is asked of an object store, by obstore (https://developmentseed.org/obstore/)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hub.object_urls import find_fault
from kdr_wsgi.errors import NoSuchEntry, ObjectChanged, StoreUnreachable
from kdr_wsgi.objects import loop
from kdr_wsgi.objects.failures import explain, find_status
from kdr_wsgi.objects.rules import StoreRule
from kdr_wsgi.objects.turns import Turns
from kdr_wsgi.objects.versions import ObjectVersion
from kdr_wsgi.ranges import Span

if TYPE_CHECKING:
    from obstore import GetOptions, ListStream, ObjectMeta
    from obstore.store import AzureStore, GCSStore, S3Store

_Result = TypeVar("_Result")

#: obstore follows redirects, and has no setting against it; what is asked of any host but those of the rule goes to
#: this proxy, at which nobody listens (discard, RFC 863).
_NOWHERE = "http://127.0.0.1:9"

#: Bodies are read in pieces; of so many at a time the bytes are on their way.
_PIECES = 32

#: So many entries a store gives at once.
LIST_ENTRIES = 1000

#: What is written at a time: a store takes 10,000 parts of an object, of at least 5 MiB each.
_MIN_PART_BYTES = 5 << 20
_PARTS = 9_000

#: Parts of an object that are on their way to the store at a time; they are in memory.
_PARTS_AHEAD = 2

#: The most that a delimited listing, which comes at once and whole, may take before all is read in pages instead; it
#: bounds what is in memory, too.
DELIMITED_SECONDS = 1.0

#: For how long, and of how many folders, it is remembered that they do not come at once.
_LARGE_SECONDS = 600.0
_LARGE_FOLDERS = 10_000


class Found(NamedTuple):
    """What a store has given.

    Attributes
    ----------
    version : ObjectVersion
    span : Span
        Which bytes these are.
    body : bytes
    """

    version: ObjectVersion
    span: Span
    body: bytes


class Listed(NamedTuple):
    """An object, or what the keys of several begin with up to a slash, in a listing."""

    name: str
    size_bytes: int | None
    modified_ns: int | None

    @property
    def is_folder(self) -> bool:
        """Whether there are objects behind a slash."""
        return self.size_bytes is None


class Unchanged(Exception):
    """The object has the entity tag that was named."""


class Store:
    """A bucket, read by one rule.

    Parameters
    ----------
    rule : StoreRule
    bucket : str
    """

    def __init__(self, rule: StoreRule, bucket: str) -> None:
        self._rule = rule
        self._bucket = bucket
        self._url = f"{rule.scheme}://{bucket}"
        self._turns = Turns(rule.requests, self._url)
        self._lock = threading.Lock()
        self._client: S3Store | GCSStore | AzureStore | None = None
        self._process = 0
        self._pieces: asyncio.Semaphore | None = None
        self._large_until: dict[str, float] = {}

    @property
    def rule(self) -> StoreRule:
        """The rule by which it is read."""
        return self._rule

    @property
    def url(self) -> str:
        """The address of the bucket, without a slash at its end."""
        return self._url

    def find(self, key: str) -> ObjectVersion:
        """Return what the store says of an object.

        Raises
        ------
        NoSuchEntry, StoreFailing
        """
        return self._wait(self._head(_checked(key)), f"head of {key!r}")

    def read(self, key: str, span: Span, *, unless: str = "") -> Found:
        """Return the bytes of a span, as far as there are any, of whatever version.

        Parameters
        ----------
        key : str
        span : Span
        unless : str
            The store's entity tag of a version that is known.

        Raises
        ------
        Unchanged
            It has the tag of `unless`.
        NoSuchEntry, StoreFailing
        """
        return self._wait(self._get(_checked(key), span, unless=unless), f"get of {key!r}")

    def read_version(self, key: str, span: Span, version: ObjectVersion) -> bytes:
        """Return the bytes of a span of a version.

        Raises
        ------
        ObjectChanged
            It is of another one now.
        StoreFailing
        """
        return self._wait(self._get_piece(key, span, version), f"get of {key!r}")

    def begin_piece(self, key: str, span: Span, version: ObjectVersion) -> Future[bytes]:
        """Begin to read a span of a version; the result is what `read_version` returns, or raises."""
        return loop.submit(self._in_time(self._get_piece(key, span, version), f"get of {key!r}"))

    def has_below(self, prefix: str) -> bool:
        """Whether there is an object whose key begins with `prefix`, which ends with a slash, and goes on.

        Raises
        ------
        StoreFailing
        """
        return self._wait(self._has_below(prefix), f"listing of {prefix!r}")

    def list_folder(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Yield what lies below `prefix`, up to the next slash, in the order of the keys, asked for as it is taken.

        Parameters
        ----------
        prefix : str
            It ends with a slash, or is empty.
        after : str
            A name, which ends with a slash if it is that of a folder: only what comes behind it.

        Raises
        ------
        StoreFailing
        """
        what = f"listing of {prefix!r}"
        pages = self._pages(prefix, after)
        while True:
            page: list[Listed] | None = self._wait(anext(pages, None), what)
            if page is None:
                return
            yield from page

    def list_at_once(self, prefix: str) -> list[Listed] | None:
        """Return all that `list_folder` would yield, if the store gives that in a moment; else None.

        Raises
        ------
        StoreFailing
        """
        if time.monotonic() < self._large_until.get(prefix, 0.0):
            return None
        listed = self._wait(self._delimited(prefix), f"listing of {prefix!r}")
        if listed is None:
            # Who turns its pages need not wait for that with each.
            if len(self._large_until) >= _LARGE_FOLDERS:
                self._large_until.clear()
            self._large_until[prefix] = time.monotonic() + _LARGE_SECONDS
        return listed

    def list_all(self, prefix: str) -> Iterator[tuple[str, ObjectVersion]]:
        """Yield all objects whose keys begin with `prefix`: the rest of the key, which may be served, and its version.

        Parameters
        ----------
        prefix : str
            It ends with a slash, or is empty.

        Raises
        ------
        StoreFailing
        """
        what = f"listing of {prefix!r}"
        chunks = self._chunks(prefix, None, LIST_ENTRIES)
        while True:
            chunk: Any = self._wait(anext(chunks, None), what)
            if chunk is None:
                return
            for meta in chunk:
                key: str = meta["path"]
                name = key[len(prefix) :]
                if key.startswith(prefix) and name and not find_fault(name):
                    yield name, self._version(key, meta)

    def write(self, key: str, size_bytes: int, chunks: Iterable[bytes]) -> None:
        """Write an object, in parts if it is large; it is there once all of it is.

        What fails in between leaves no object, and of a large one parts that
        the store removes when it is told to (a lifecycle rule).

        Parameters
        ----------
        key : str
        size_bytes : int
        chunks : iterable of bytes
            What an error of it ends is not written.

        Raises
        ------
        StoreFailing
        """
        import obstore

        part_bytes = max(_MIN_PART_BYTES, -(-size_bytes // _PARTS))
        with self._explained(f"put of {key!r}"):
            # In this thread: those of obstore must wait for no client.
            writer = obstore.open_writer(
                self._connect(), _checked(key), buffer_size=part_bytes, max_concurrency=_PARTS_AHEAD
            )
        for chunk in chunks:
            with self._explained(f"put of {key!r}"):
                writer.write(chunk)
        with self._explained(f"put of {key!r}"):
            writer.close()

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects.

        Raises
        ------
        StoreFailing
        """
        import obstore

        with self._explained("delete"), suppress(FileNotFoundError):
            obstore.delete(self._connect(), keys)

    def sign(self, method: str, key: str) -> str:
        """Return an address at which whoever has it may ask for an object with `method` for a short time.

        Raises
        ------
        StoreFailing
        """
        return self._wait(self._sign(method, _checked(key)), f"signing of {key!r}")

    # --- in the loop -------------------------------------------------------------------------------------------------

    async def _head(self, key: str) -> ObjectVersion:
        import obstore

        return self._version(key, await obstore.head_async(self._connect(), key))

    async def _get(self, key: str, span: Span, *, unless: str) -> Found:
        import obstore
        from obstore.exceptions import NotModifiedError

        options: GetOptions = {"range": (span.start, span.stop)}
        if unless:
            options["if_none_match"] = unless
        try:
            result = await obstore.get_async(self._connect(), key, options=options)
        except NotModifiedError:
            raise Unchanged from None
        except Exception as error:
            if find_status(error) != 416:
                raise
            version = await self._head(key)
            return Found(version, Span(version.size_bytes, version.size_bytes), b"")
        version = self._version(key, result.meta)
        return Found(version, Span(*result.range), await _take(result, Span(*result.range)))

    async def _get_piece(self, key: str, span: Span, version: ObjectVersion) -> bytes:
        import obstore
        from obstore.exceptions import PreconditionError

        if self._pieces is None:
            self._pieces = asyncio.Semaphore(_PIECES)
        options: GetOptions = {"range": (span.start, span.stop), "if_match": version.tag}
        async with self._pieces:
            try:
                result = await obstore.get_async(self._connect(), key, options=options)
            except (PreconditionError, FileNotFoundError):
                raise ObjectChanged from None
            # Of a store that does not know If-Match.
            if self._version(key, result.meta) != version or Span(*result.range) != span:
                raise ObjectChanged
            return await _take(result, span)

    async def _has_below(self, prefix: str) -> bool:
        async for page in self._chunks(prefix, None, 1):
            return bool(page)
        return False

    async def _pages(self, prefix: str, after: str) -> AsyncIterator[list[Listed]]:
        offset = prefix + _behind(after) if after else None
        last_folder = after if after.endswith("/") else ""
        while True:
            page: list[Listed] = []
            skip = ""
            async for chunk in self._chunks(prefix, offset, LIST_ENTRIES):
                for meta in chunk:
                    listed = _listed(meta, prefix)
                    if listed is None:
                        continue
                    if not listed.is_folder:
                        page.append(listed)
                    elif listed.name != last_folder:
                        last_folder = listed.name
                        page.append(listed)
                # All that is below a folder which has more than the rest of the page is passed over.
                is_last = len(chunk) < LIST_ENTRIES
                if not is_last and last_folder and chunk[-1]["path"].startswith(prefix + last_folder):
                    skip = prefix + _behind(last_folder)
                    break
                if page:
                    yield page
                    page = []
            if page:
                yield page
            if not skip:
                return
            offset = skip

    async def _delimited(self, prefix: str) -> list[Listed] | None:
        import obstore

        asking = obstore.list_with_delimiter_async(self._connect(), prefix.rstrip("/") or None)
        try:
            result = await asyncio.wait_for(asking, DELIMITED_SECONDS)
        except asyncio.TimeoutError:
            return None
        folders = (Listed(f"{path[len(prefix) :].strip('/')}/", None, None) for path in result["common_prefixes"])
        objects = (listed for meta in result["objects"] if (listed := _listed(meta, prefix)) is not None)
        return sorted((*folders, *objects), key=lambda each: each.name.encode("utf-8", "surrogatepass"))

    async def _sign(self, method: str, key: str) -> str:
        import obstore

        seconds = timedelta(seconds=self._rule.redirect_seconds)
        return await obstore.sign_async(self._connect(), "HEAD" if method == "HEAD" else "GET", key, seconds)

    async def _chunks(self, prefix: str, offset: str | None, number: int) -> AsyncIterator[Any]:
        import obstore

        stream: ListStream[Any] = obstore.list(
            self._connect(), prefix.rstrip("/") or None, offset=offset, chunk_size=number
        )
        async for chunk in stream:
            yield chunk

    def _version(self, key: str, meta: ObjectMeta) -> ObjectVersion:
        tag = meta["e_tag"]
        if not tag or tag.startswith("W/"):
            raise StoreUnreachable(f"{self._url}: it gives no strong entity tag, by which versions are told apart")
        if not tag.startswith('"'):  # As Azure writes it in listings.
            tag = f'"{tag}"'
        return ObjectVersion(meta["size"], _nanoseconds(meta["last_modified"]), tag, f"{self._url}/{key}")

    # --- how it is waited for ----------------------------------------------------------------------------------------

    def _wait(self, work: Awaitable[_Result], what: str) -> _Result:
        """Return what becomes of `work`; so many threads wait at a time, and none for longer than is allowed."""
        try:
            with self._turns.taken():
                return loop.submit(self._in_time(work, what)).result()
        finally:
            if hasattr(work, "close"):  # It has not begun.
                with suppress(RuntimeError, ValueError):
                    work.close()

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            # As below.
            raise explain(error, f"{self._url}: {what}") from None

    async def _in_time(self, work: Awaitable[_Result], what: str) -> _Result:
        from obstore.exceptions import BaseError

        try:
            return await asyncio.wait_for(work, self._rule.answer_seconds)
        except FileNotFoundError:
            raise NoSuchEntry from None
        except (BaseError, asyncio.TimeoutError, TimeoutError, ValueError, OSError) as error:
            # Without the cause: its text may hold what is for nobody.
            raise explain(error, f"{self._url}: {what}") from None

    def _connect(self) -> S3Store | GCSStore | AzureStore:
        """Return obstore's own store, which each process makes for itself."""
        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client, self._process = _make_client(self._rule, self._bucket), os.getpid()
                self._pieces = None
            return self._client


class Stores:
    """The stores of a process, each made with the first request for it."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], Store] = {}
        self._lock = threading.Lock()

    def find(self, rule: StoreRule, bucket: str) -> Store:
        """Return the store that is read by a rule."""
        with self._lock:
            store = self._stores.get((rule.prefix, bucket))
            if store is None:
                store = self._stores[rule.prefix, bucket] = Store(rule, bucket)
            return store


def _make_client(rule: StoreRule, bucket: str) -> S3Store | GCSStore | AzureStore:
    from obstore.store import AzureStore, GCSStore, S3Store

    makers: dict[str, Callable[..., Any]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=rule.connect_seconds),
        "timeout": timedelta(seconds=rule.answer_seconds),
        "allow_http": rule.is_plain,
        "user_agent": "kdr-wsgi",
        # Of who reads tiles one after the other none waits for a new connection.
        "pool_max_idle_per_host": str(rule.requests),
        "proxy_url": _NOWHERE,
        "proxy_excludes": ",".join(rule.allowed_hosts),
    }
    retry = {
        "max_retries": rule.retries,
        "retry_timeout": timedelta(seconds=rule.answer_seconds),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
    }
    made: S3Store | GCSStore | AzureStore = makers[rule.scheme](
        bucket, config=dict(rule.options), client_options=client, retry_config=retry
    )
    return made


async def _take(result: Any, span: Span) -> bytes:
    body = bytes(await result.bytes_async())
    if len(body) != span.size_bytes:
        raise StoreUnreachable("a store has sent fewer bytes than it has said")
    return body


def _checked(key: str) -> str:
    """Return `key` if it can be one of an object that is served; raise NoSuchEntry if not."""
    if not key or find_fault(key):
        raise NoSuchEntry
    return key


def _behind(name: str) -> str:
    """Return what comes behind a name in a listing, and behind all that is below it, if it is that of a folder."""
    return f"{name}\U0010ffff" if name.endswith("/") else name


def _listed(meta: Any, prefix: str) -> Listed | None:
    """Return the object or the folder below `prefix` that an object is, or is in; None: it has no name there."""
    path: str = meta["path"]
    name, slash, _ = path[len(prefix) :].partition("/")
    if not path.startswith(prefix) or not name:
        return None
    return (
        Listed(name + slash, None, None) if slash else Listed(name, meta["size"], _nanoseconds(meta["last_modified"]))
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
