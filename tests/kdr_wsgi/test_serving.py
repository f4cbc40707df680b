"""How long a thread stays with a connection."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from kdr_wsgi import serving
from kdr_wsgi.serving import LingeringWorker


@pytest.mark.parametrize(("connections", "answered"), [(1, 2), (2, 2), (3, 1)])
def test_a_thread_lingers_only_while_there_is_one_for_each_connection(
    monkeypatch: pytest.MonkeyPatch, connections: int, answered: int
) -> None:
    answers = iter((True, False))
    handled = []

    def handle(_worker: object, connection: object) -> bool:
        handled.append(connection)
        return next(answers)

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.alive, worker.nr_conns, worker.cfg = True, connections, SimpleNamespace(threads=2)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.send(b"GET")
        assert worker.handle(SimpleNamespace(sock=reader)) is (answered == 1)
    assert len(handled) == answered


def test_a_quiet_connection_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(ThreadWorker, "handle", lambda _worker, _connection: True)
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.alive, worker.nr_conns, worker.cfg = True, 1, SimpleNamespace(threads=2)
    reader, writer = socket.socketpair()
    with reader, writer:
        assert worker.handle(SimpleNamespace(sock=reader)) is True
