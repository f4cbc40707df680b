"""The files in deploy/: what they say is what the programs they are for take, and what they start answers."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jupyterhub.services.service import Service
from traitlets.config import Config

from kdr_wsgi.settings import SETTINGS, read_stores
from tests.conftest import free_port, wait_for_port
from tests.fake_hub import fake_hub
from tests.raw_http import Connection, fetch

DEPLOY = Path(__file__).parents[2] / "deploy"
LARGE_BYTES = 300 << 20

#: Of the Kubernetes that is oldest among those that are maintained.
KUBERNETES = "1.33"


def read_manifests() -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())]


def container() -> dict[str, Any]:
    (deployment,) = (made for made in read_manifests() if made["kind"] == "Deployment")
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def command_of_container() -> list[str]:
    (command,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    return [str(word) for word in ast.literal_eval(command)]


def unit() -> configparser.RawConfigParser:
    read = configparser.RawConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((DEPLOY / "kdr.service").read_text())
    return read


def test_kubernetes_takes_the_manifests() -> None:
    for manifest in read_manifests():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_settings_are_those_that_there_are() -> None:
    known = {setting.name for setting in SETTINGS}
    named = {name for path in DEPLOY.iterdir() for name in re.findall(r"\bKDR_[A-Z_]+\b", path.read_text())}
    assert named - known == {"KDR_SERVICE_URL"}  # Of kernels.


def test_the_rules_of_stores_are_such_as_servers_take(tmp_path: Path) -> None:
    (rules,) = (made["data"]["stores.json"] for made in read_manifests() if made["kind"] == "ConfigMap")
    # As Kubernetes mounts it: for all to read, since it has no secret.
    (tmp_path / "stores.json").write_text(rules)
    (tmp_path / "stores.json").chmod(0o644)
    secrets = {entry["name"]: "x" for entry in container()["env"] if "valueFrom" in entry}
    read = read_stores({"KDR_STORES": str(tmp_path / "stores.json"), **secrets})
    assert read.seen_by("ada") == ["s3://homes/ada/"]


def test_the_hub_takes_what_the_chart_passes_on() -> None:
    values = yaml.safe_load((DEPLOY / "zero-to-jupyterhub.yaml").read_text())
    told = values["hub"]["services"]["kdr"]
    # As the chart's jupyterhub_config.py has it.
    service = {("api_token" if name == "apiToken" else name): value for name, value in told.items()}
    assert service.keys() <= Service.class_traits().keys()
    config = Config()
    exec(values["hub"]["extraConfig"]["kdr"], {"c": config})
    assert "access:services!service=kdr" in config.Spawner.server_token_scopes
    names = {entry["name"]: entry.get("value") for entry in container()["env"]}
    assert service["url"] == names["JUPYTERHUB_SERVICE_URL"]
    assert values["singleuser"]["extraEnv"]["KDR_SERVICE_URL"] == (
        f"{names['JUPYTERHUB_SERVICE_URL']}{names['JUPYTERHUB_SERVICE_PREFIX']}"
    )


@pytest.mark.parametrize("file", ["Containerfile", "kdr.service"])
def test_what_is_started_answers_the_probes_and_drains(tmp_path: Path, file: str) -> None:
    if file == "Containerfile":
        program, *arguments = command_of_container()
    else:
        program, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert Path(program).name == "gunicorn"
    port = free_port()
    arguments = [word.replace("0.0.0.0:10101", f"127.0.0.1:{port}") for word in arguments]
    probes = container()
    with fake_hub(tmp_path) as environment:
        where = {"JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}"}
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments, "-w", "1"], env={**os.environ, **environment, **where}
        )
        try:
            wait_for_port(port, process)
            address = ("127.0.0.1", port)
            for probe in ("livenessProbe", "readinessProbe"):
                assert fetch(address, probes[probe]["httpGet"]["path"]).status == 200
            (tmp_path / "service" / "registry.sqlite").write_bytes(b"no registry" * 1000)
            time.sleep(1.1)  # For so long a registry that was replaced may go on being read.
            assert fetch(address, probes["livenessProbe"]["httpGet"]["path"]).status == 200
            assert fetch(address, probes["readinessProbe"]["httpGet"]["path"]).status == 503
            with Connection(address) as idle:
                assert idle.request("GET", probes["livenessProbe"]["httpGet"]["path"]).status == 200
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_the_platform_waits_for_longer_than_the_server_does() -> None:
    from kdr_wsgi.gunicorn_conf import graceful_timeout

    (deployment,) = (made for made in read_manifests() if made["kind"] == "Deployment")
    (_, waited) = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= graceful_timeout + int(waited)
    assert int(unit()["Service"]["TimeoutStopSec"]) > graceful_timeout
