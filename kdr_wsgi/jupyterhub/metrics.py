"""What a service counts, for a Prometheus server and for its administrators."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from hub.errors import RegistryError
from hub.registries import AnyRegistry
from hub.version import VERSION
from kdr_wsgi.cache import CacheKey, FileCache
from kdr_wsgi.files import SmallFile

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

#: https://prometheus.io/docs/instrumenting/exposition_formats/
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: What the hub has said of a token.
Outcome = Literal["known", "refused", "unavailable"]

_OUTCOMES: tuple[Outcome, ...] = ("known", "refused", "unavailable")

#: Whoever sends requests chooses their methods, and each name would be counted by itself.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5)


class Totals(NamedTuple):
    """What all workers together have done since the server was started."""

    requests: int
    body_bytes: int
    cache_hits: int
    cache_misses: int


class Metrics(Collector):
    """Counts, over all workers where gunicorn's are told of a folder for that (``PROMETHEUS_MULTIPROC_DIR``).

    Parameters
    ----------
    registry : Registry
        Whose registrations are counted when somebody asks.
    """

    def __init__(self, registry: AnyRegistry) -> None:
        self._registry = registry
        # Of its own, since one process may have several applications.
        own = CollectorRegistry()
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._counts: Collector = _Workers(Path(folder)) if folder else own
        self._requests = Counter(
            "kdr_requests_total",
            "Requests, by their method and the status of the answer",
            ("method", "status"),
            registry=own,
        )
        self._body_bytes = Counter(
            "kdr_body_bytes_total", "Bytes that answers have promised in their bodies", registry=own
        )
        self._seconds = Histogram(
            "kdr_head_seconds", "Seconds until the head of the answer was ready", registry=own, buckets=_SECONDS
        )
        self._hits = Counter("kdr_cache_hits_total", "Small files that came from memory", registry=own)
        self._misses = Counter("kdr_cache_misses_total", "Small files that were read from disk", registry=own)
        questions = Counter(
            "kdr_hub_questions_total", "What the hub was asked about logins, by its answer", ("outcome",), registry=own
        )
        self._questions = {outcome: questions.labels(outcome) for outcome in _OUTCOMES}

    def collect(self) -> Iterator[Metric]:
        """Yield all that is counted, and what there is now."""
        yield from self._counts.collect()
        yield InfoMetricFamily("kdr_build", "The version of the relay server", {"version": VERSION})
        try:
            owned = self.registrations_by_owner()
        except RegistryError as error:
            _log.error("%s", error)
            return
        yield GaugeMetricFamily("kdr_registrations", "Registrations of users, expired ones too", sum(owned.values()))
        yield GaugeMetricFamily("kdr_registration_owners", "Users who have registrations", len(owned))

    def text(self) -> bytes:
        """Return all of it as a Prometheus server reads it."""
        return generate_latest(self)

    def totals(self) -> Totals:
        """Return what has been done since the start."""
        sums: defaultdict[str, float] = defaultdict(float)
        for metric in self._counts.collect():
            for sample in metric.samples:
                sums[sample.name] += sample.value
        names = ("kdr_requests_total", "kdr_body_bytes_total", "kdr_cache_hits_total", "kdr_cache_misses_total")
        return Totals(*(int(sums[name]) for name in names))

    def registrations_by_owner(self) -> dict[str, int]:
        """Return how many registrations each user has, without the service's own.

        Raises
        ------
        RegistryError
        """
        return {owner: count for owner, count in self._registry.count_by_owner().items() if owner}

    def count_question(self, outcome: Outcome) -> None:
        """Count what the hub was asked."""
        self._questions[outcome].inc()

    def counted_cache(self, capacity_bytes: int) -> FileCache:
        """Return a cache whose hits and misses are counted."""
        return _CountedCache(capacity_bytes, self._hits, self._misses)

    def counted_app(self, app: WSGIApplication) -> WSGIApplication:
        """Return an application that counts the requests to `app`, and hands its bodies through as they are."""

        def counted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            begun = time.perf_counter()

            def start(
                status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
            ) -> Callable[[bytes], object]:
                self._count(environ["REQUEST_METHOD"], status[:3], headers, time.perf_counter() - begun)
                return start_response(status, headers, exc_info)

            return app(environ, start)

        return counted

    def _count(self, method: str, status: str, headers: list[tuple[str, str]], seconds: float) -> None:
        self._requests.labels(method if method in _METHODS else "other", status).inc()
        self._seconds.observe(seconds)
        if method != "HEAD" and status not in ("204", "304"):
            self._body_bytes.inc(sum(int(value) for name, value in headers if name.lower() == "content-length"))


class _Workers(Collector):
    """What all workers have counted, those too that have ended, from the files that each writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        # A worker that is killed in the wrong moment leaves an empty file, which the library cannot read.
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


class _CountedCache(FileCache):
    def __init__(self, capacity_bytes: int, hits: Counter, misses: Counter) -> None:
        super().__init__(capacity_bytes)
        self._hits = hits
        self._misses = misses

    def find(self, place: CacheKey, status: os.stat_result) -> SmallFile | None:
        file = super().find(place, status)
        if file is not None:
            self._hits.inc()
        return file

    def add(self, place: CacheKey, file: SmallFile) -> None:
        # Here, since large files, too, are looked for in vain.
        self._misses.inc()
        super().add(place, file)
