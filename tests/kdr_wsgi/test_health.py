"""What a server says of itself, and what is said where it cannot be asked."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from kdr_wsgi.health import NoHealthError, ask_health
from tests.conftest import need


@pytest.mark.parametrize("url", ["http://host:abc/", "http://[::1/", "http://127.0.0.1:1/", "unix:/nothing/here"])
def test_an_address_where_nobody_answers(url: str) -> None:
    with pytest.raises(NoHealthError, match="it does not answer") as caught:
        ask_health(url, "wwtkdr")
    assert caught.value.is_known_bad


@pytest.mark.parametrize(
    ("answer", "sentence", "is_known_bad"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "it asks for a login", False),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "it asks for a login", False),
        (b"HTTP/1.1 503 X\r\n\r\nThe relay server does not start.\n", "The relay server does not start.", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n<html>", r"is no relay server \(status 404\)", True),
    ],
)
def test_other_answers_are_explained(tmp_path: Path, answer: bytes, sentence: str, is_known_bad: bool) -> None:
    path = tmp_path / "s"
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(10_000))
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve)
        server.start()
        # As Jupyter writes the address of a server on a socket.
        url = f"http+unix://{str(path).replace('/', '%2F')}/user/ada/"
        with pytest.raises(NoHealthError, match=sentence) as caught:
            ask_health(url, "wwtkdr", "the-token")
        server.join()
    assert caught.value.is_known_bad is is_known_bad
    assert asked[0].startswith(b"GET /user/ada/wwtkdr/_health ")
    assert b"Authorization: token the-token\r\n" in asked[0]


def test_a_certificate_of_ones_own_is_not_called_bad(tmp_path: Path) -> None:
    need("openssl", is_there=shutil.which("openssl") is not None, remedy="apt-get install openssl")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(NoHealthError, match="certificate") as caught:
            ask_health(f"https://localhost:{listener.getsockname()[1]}/", "wwtkdr")
        server.join()
    assert not caught.value.is_known_bad
