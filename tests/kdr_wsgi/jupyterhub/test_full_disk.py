"""A service whose disk is full refuses what it cannot store, serves what it has, and goes on once there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub import JupyterRelayHub, ServiceError
from tests.fake_hub import AS_ADA, PREFIX, live_service
from tests.mounts import run_inside, with_mounts


def test_a_full_disk_of_a_service_loses_nothing(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "homes" / "ada"
    for number in range(2000):
        path = home / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    disk = Path(environment["KDR_REGISTRY"]).parent
    disk.mkdir(mode=0o700)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-of-ada")
    wrapper = with_mounts('mount -t tmpfs -o size=2m,mode=700 none "$a0"', disk)
    with live_service(tmp_path, environment, wrapper=wrapper) as service:
        host, port = service.address
        url = f"http://{host}:{port}{PREFIX}"
        hub = JupyterRelayHub(service=url, registry=tmp_path / "own" / "registry.sqlite", key_prefix="")
        kept = hub.serve_tree(home / "0", content=True)

        def inside(script: str) -> str:
            return run_inside(service.process.pid, "sh", "-c", f'cd "$1" && {script}', "sh", disk)

        def is_served(published: str, name: str) -> bool:
            answer = service.get(published.removeprefix(f"{PREFIX}wwtkdr/") + name, AS_ADA)
            return (answer.status, answer.body) == (200, name.removesuffix(".png").encode())

        inside("head -c 2M /dev/zero >ballast 2>/dev/null || true")
        told = {kept.key}

        def publish_more() -> None:
            while True:
                long = {"Content-Disposition": "x" * 2000}
                told.add(hub.serve_tree(home / "0", key=f"k{len(told)}", headers=long).key)

        with pytest.raises(ServiceError, match="the service cannot store this now; ask the administrator"):
            publish_more()
        with pytest.raises(ServiceError, match="the service cannot store this now; ask the administrator"):
            hub.serve_tree(home / "1", content=True)
        service.wait_for_log(lambda log: "No space left on device" in log and "disk is full" in log)
        assert "Traceback" not in service.log.read_text()
        assert {registration.key for registration, _ in hub.registrar.registrations()} == told
        assert is_served(kept, "2.png")
        assert inside("find . -name '*.tmp'") == ""
        inside("rm ballast")
        later = hub.serve_tree(home / "1", content=True)
        told |= {later.key, hub.serve_tree(home / "0", key="after").key}
        assert {registration.key for registration, _ in hub.registrar.registrations()} == told
        assert is_served(later, "1.png")
        assert inside("find . -name '*.tmp'") == ""
