"""The socket on which a server listens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kdr_wsgi.sockets import listen


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket takes its mode from the umask alone")
def test_a_private_socket_changes_no_other_threads_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.umask", lambda _mask: pytest.fail("the umask belongs to all threads"))
    path = tmp_path / "s"
    with listen(f"unix:{path}"):
        assert path.stat().st_mode & 0o777 == 0o600
