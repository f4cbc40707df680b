"""By which names a server may be asked."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import JupyterRelayHub
from kdr_wsgi import create_app
from kdr_wsgi.hosts import KnownHosts
from kdr_wsgi.settings import SettingError, read_settings

#: What a page can have its own name lead to this machine under, by DNS rebinding.
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "xlocalhost",
    "evil.example.",
    "evil.example:8000:localhost",
    "[evil.example]",
    "[::1].evil.example",
    "localhost, evil.example",
    "localhost@evil.example",
    "0x7f.1",
    "2130706433",
    "",
    "[",
]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.:8000",
        "a.localhost",
        "127.0.0.1",
        "10.1.2.3:8000",
        "[::1]",
        "[::1]:8000",
        socket.gethostname(),
    ],
)
def test_a_server_knows_addresses_and_its_own_names(host: str) -> None:
    assert host in KnownHosts()


@pytest.mark.parametrize("host", FOREIGN)
def test_a_server_knows_no_names_of_others(host: str) -> None:
    assert host not in KnownHosts(["viewer.example.org"])


@given(st.text())
def test_no_host_is_more_than_unknown(host: str) -> None:
    assert isinstance(host in KnownHosts(), bool)


def test_names_are_told() -> None:
    hosts = KnownHosts(["Viewer.Example.org", ".lab.example"])
    for host in ("viewer.example.org:8000", "VIEWER.example.org", "a.lab.example", "a.b.lab.example:1"):
        assert host in hosts
    for host in ("example.org", "x.viewer.example.org", "lab.example", "xlab.example"):
        assert host not in hosts
    assert "whatever" in KnownHosts(["*"])


@pytest.mark.parametrize("value", ["https://a.example", "a.example:8000", "*.example.org", "a b", "a..b", "a/"])
def test_what_is_no_name_is_refused(value: str) -> None:
    with pytest.raises(SettingError, match=r"KDR_HOSTS cannot be used: .* is no name of a host; write viewer"):
        read_settings({"KDR_HOSTS": value})


@pytest.mark.parametrize(
    ("host", "environ", "config", "status"),
    [
        ("evil.example:8000", {}, {}, 421),
        ("localhost:8000", {}, {}, 200),
        ("viewer.example", {}, {"KDR_HOSTS": "viewer.example,other.example"}, 200),
        # Of its own proxy it is the proxy's to know its names; no page reaches a unix socket.
        ("viewer.example", {"REMOTE_ADDR": "10.0.0.1"}, {"KDR_TRUSTED_PROXIES": "10.0.0.1"}, 200),
        ("viewer.example", {"REMOTE_ADDR": "10.0.0.2"}, {"KDR_TRUSTED_PROXIES": "10.0.0.1"}, 421),
        ("viewer.example", {"REMOTE_ADDR": ""}, {}, 200),
    ],
)
def test_a_page_that_names_this_machine_reads_nothing(
    tmp_path: Path, registry_path: Path, host: str, environ: dict[str, str], config: dict[str, str], status: int
) -> None:
    (tmp_path / "a").write_bytes(b"private")
    url = JupyterRelayHub(registry=registry_path, key_prefix="", base_url="/").serve_file(tmp_path / "a")
    app = create_app({"KDR_REGISTRY": str(registry_path), "KDR_AS_OWNER": "1", **config})
    for path in (url, "/wwtkdr/_health", "/"):
        answer = app.test_client().get(path, headers={"Host": host}, environ_overrides=environ)
        assert answer.status_code == (404 if path == "/" and status == 200 else status)
        assert (b"KDR_HOSTS" in answer.data) == (status == 421)
