"""Stores that speak neither Amazon's language nor Swift's: what Azure and Google have for tests of programs.

Azurite is Microsoft's own. Of Google's store nothing runs here; `moto` is asked
in its place, by Google's client, since both speak XML that is much the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import obstore

from tests.conftest import free_port, need, wait_for_port

#: The account that Azurite has, whose key everybody knows.
ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

BUCKET = "survey"


class OtherStore(NamedTuple):
    """A store that runs, with one bucket.

    Attributes
    ----------
    prefix : str
        The bucket's address, with a slash at its end.
    options : dict
        Of a rule of ``KDR_STORES``.
    put : callable
        Writes an object: a key, a body.
    """

    prefix: str
    options: dict[str, Any]
    put: Callable[[str, bytes], object]


@contextmanager
def azure(folder: Path) -> Iterator[OtherStore]:
    """Run Azurite; the test is skipped where it is not installed."""
    from obstore.store import AzureStore

    program = os.environ.get("KDR_TEST_AZURITE", "")
    remedy = "npm install azurite, and name its azurite-blob in KDR_TEST_AZURITE"
    need("azurite", is_there=os.path.exists(program), remedy=remedy)
    port = free_port()
    with _running(
        [program, "--blobPort", str(port), "--location", str(folder), "--silent", "--disableTelemetry"], port
    ):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        _make_container(endpoint)
        options = {"endpoint": endpoint, "account_name": ACCOUNT, "account_key": _KEY}
        client = AzureStore(BUCKET, config=options, client_options={"allow_http": True})  # type: ignore[arg-type]
        yield OtherStore(f"az://{BUCKET}/", options, partial(obstore.put, client))


@contextmanager
def google() -> Iterator[OtherStore]:
    """Run moto's server, which Google's client reads without a signature."""
    port = free_port()
    program = "import sys; from moto.server import main; sys.exit(main(sys.argv[1:]))"
    with _running([sys.executable, "-c", program, "-p", str(port)], port):
        endpoint = f"http://127.0.0.1:{port}"

        def put(key: str, body: bytes) -> None:
            headers = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}
            _put(f"{endpoint}/{BUCKET}/{quote(key)}", body, headers)

        _put(f"{endpoint}/{BUCKET}", b"", {})
        yield OtherStore(f"gs://{BUCKET}/", {"base_url": endpoint, "skip_signature": True}, put)


OTHER_STORES: dict[str, Callable[[Path], Any]] = {"azure": azure, "google": lambda _: google()}


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _make_container(endpoint: str) -> None:
    # obstore makes none. The string is what Azure calls Shared Key.
    date, version = formatdate(usegmt=True), "2021-08-06"
    signed = "\n".join(
        (
            "PUT",
            *[""] * 11,
            f"x-ms-date:{date}",
            f"x-ms-version:{version}",
            f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}",
            "restype:container",
        )
    )
    signature = base64.b64encode(hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{signature}",
    }
    _put(f"{endpoint}/{BUCKET}?restype=container", b"", headers)


def _put(url: str, body: bytes, headers: dict[str, str]) -> None:
    # Without a body no type is sent, which would have to be signed.
    asked = urllib.request.Request(url, body or None, {"Content-Length": str(len(body)), **headers}, method="PUT")
    with urllib.request.urlopen(asked, timeout=20):
        pass
