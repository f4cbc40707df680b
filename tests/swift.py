"""OpenStack Swift with its S3 interface, as Debian has it: a store that speaks S3, started for tests."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import free_port, need, wait_for_port

#: Swift's own Python, which has Swift.
_PYTHON = "/usr/bin/python3"

_KINDS = ("account", "container", "object")

_SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
user = {user}
log_level = ERROR
log_address = {folder}/no-syslog
fallocate_reserve = 0

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
allow_versions = true
"""

_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
user = {user}
log_level = ERROR
log_address = {folder}/no-syslog

[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
node_timeout = 20
recoverable_node_timeout = 20
error_suppression_limit = 1000000
conn_timeout = 5

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached_port}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = {region}
allow_no_owner = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""

#: What swift-ring-builder does, three times with one start of Python.
_RINGS = """\
import sys
from swift.common.ring import RingBuilder
for argument in sys.argv[1:]:
    path, _, port = argument.rpartition(":")
    builder = RingBuilder(1, 1, 0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(path)
"""

ACCESS_KEY = "test:tester"
SECRET = "testing-d41c6b"
REGION = "us-east-1"


@dataclass
class Swift:
    """A store that runs.

    Attributes
    ----------
    ports : dict of str to int
        Of each server, on 127.0.0.1; that of ``proxy`` speaks S3.
    """

    ports: dict[str, int]
    user: str
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Of the S3 interface."""
        return self.ports["proxy"]

    @property
    def endpoint(self) -> str:
        """What S3 clients are told."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """What obstore needs to reach it."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET,
            "region": REGION,
            "allow_http": "true",
        }

    def bucket(self, name: str) -> Any:
        """Return obstore's own store for a bucket."""
        from obstore.store import S3Store

        options: dict[str, Any] = dict(self.options)
        del options["allow_http"]
        return S3Store(name, client_options={"allow_http": True}, **options)

    def make_bucket(self, name: str) -> Any:
        """Make a bucket, and return obstore's own store for it."""
        import datetime

        import obstore

        url = obstore.sign(self.bucket(name), "PUT", "", datetime.timedelta(minutes=5))
        for _ in range(50):
            asked = urllib.request.Request(url, method="PUT")
            try:
                with urllib.request.urlopen(asked, timeout=20):
                    return self.bucket(name)
            except urllib.error.HTTPError as error:
                if error.code == http.client.CONFLICT:  # It is there.
                    return self.bucket(name)
            except OSError:  # Swift is just beginning.
                pass
            time.sleep(0.1)
        raise RuntimeError(f"no bucket {name}")

    def database_of(self, name: str) -> Path:
        """Return the file in which Swift's container server has what it lists of a bucket."""
        for path in (self.folder / "devices" / "d1" / "containers").glob("*/*/*/*.db"):
            with closing(sqlite3.connect(path)) as connection:
                if connection.execute("SELECT container FROM container_info").fetchone() == (name,):
                    return path
        raise RuntimeError(f"no database of the bucket {name}")

    def stop(self) -> None:
        """End all servers."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(30)
        self.processes.clear()

    def start(self) -> None:
        """Start the servers."""
        memcached = ["memcached", "-l", "127.0.0.1", "-p", str(self.ports["memcached"]), "-m", "32", "-u", self.user]
        self.processes["memcached"] = subprocess.Popen(memcached)
        for name in (*_KINDS, "proxy"):
            with (self.folder / f"{name}.err").open("wb") as log:
                command = [_PYTHON, f"/usr/bin/swift-{name}-server", str(self.folder / f"{name}.conf")]
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        # What the proxy does not reach at its first request, it does not ask again for a while.
        for name, process in self.processes.items():
            wait_for_port(self.ports[name], process)
        with urllib.request.urlopen(f"{self.endpoint}/healthcheck", timeout=20):
            pass


def need_swift() -> None:
    """Skip a test where there is no Swift."""
    programs = ["memcached", *(f"swift-{name}-server" for name in (*_KINDS, "proxy"))]
    is_there = all(map(shutil.which, programs))
    need(
        "swift",
        is_there=is_there,
        remedy="apt-get install memcached swift-proxy swift-account swift-container swift-object",
    )


def _need_attributes(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.kdr", b"1")
    except OSError:
        need("swift", is_there=False, remedy=f"a file system with user attributes at {folder} (pytest --basetemp)")


@contextmanager
def running_swift(folder: Path) -> Iterator[Swift]:
    """Start Swift in an empty folder, whose file system has extended attributes."""
    import getpass

    need_swift()
    user = getpass.getuser()
    (folder / "devices" / "d1").mkdir(parents=True)
    _need_attributes(folder)
    ports = {name: free_port() for name in ("memcached", *_KINDS, "proxy")}
    for kind in _KINDS:
        kind_port = ports[kind]
        (folder / f"{kind}.conf").write_text(_SERVER.format(port=kind_port, folder=folder, kind=kind, user=user))
    rings = [f"{folder / kind}.ring.gz:{ports[kind]}" for kind in _KINDS]
    subprocess.run([_PYTHON, "-c", _RINGS, *rings], check=True, cwd=folder)
    proxy = _PROXY.format(
        port=ports["proxy"],
        folder=folder,
        user=user,
        secret=SECRET,
        region=REGION,
        memcached_port=ports["memcached"],
    )
    (folder / "proxy.conf").write_text(proxy)
    swift = Swift(ports, user, folder)
    try:
        swift.start()
        yield swift
    finally:
        swift.stop()
