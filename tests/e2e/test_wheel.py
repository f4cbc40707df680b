"""What is installed is whole: a wheel in an empty environment, away from the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that nothing is left in the source tree; by way of the sdist, so that nothing that it lacks gets in.
    copy = shutil.copytree(
        SOURCE, folder / "copy", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "node_modules")
    )
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=110)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_carries_every_file_that_is_needed(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for package in ("hub", "kdr_wsgi"):
        for path in (SOURCE / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(SOURCE).as_posix() in packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    # What enables the extension, where Jupyter looks.
    enabling = "data/etc/jupyter/jupyter_server_config.d/kdr_wsgi.json"
    assert [name for name in packed if name.endswith(enabling)] != []
    # What JupyterLab loads, file by file as it was built.
    built = SOURCE / "labextension" / "built"
    for path in [*built.rglob("*"), built.with_name("install.json")]:
        named = path.relative_to(built) if path.is_relative_to(built) else path.name
        end = f"data/share/jupyter/labextensions/kdr-wsgi/{named}"
        assert not path.is_file() or any(name.endswith(end) for name in packed), path
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in packed)


def test_an_installed_wheel_serves(wheel: Path, tmp_path: Path, tree: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=110)
    (tree / "a").write_text("x")
    program = (
        "import hub, kdr_wsgi, sys, pathlib\n"
        "relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url='/')\n"
        "url = relay.serve_tree(sys.argv[2], visibility='public')\n"
        "static = relay.get_static_files_url()\n"
        "client = kdr_wsgi.create_app({'KDR_REGISTRY': sys.argv[1]}).test_client()\n"
        "answers = [client.get(path) for path in (url + 'a', url, static + 'preview/pyramid.html')]\n"
        "print(answers[0].text, *(answer.status_code for answer in answers))\n"
        "print(sorted(p.name for m in (hub, kdr_wsgi) for p in pathlib.Path(m.__file__).parent.glob('py.typed')))\n"
    )
    command: list[str | Path] = [
        python,
        "-W",
        "ignore::ResourceWarning",
        "-c",
        program,
        str(tmp_path / "registry"),
        str(tree),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment).stdout
    assert printed == "x 200 200 200\n['py.typed', 'py.typed']\n"
    kdr = tmp_path / "venv" / "bin" / "kdr"
    run: list[str | Path] = [kdr, "publish", str(tree), "--key", "k", "--registry", str(tmp_path / "registry")]
    assert subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout == "/wwtkdr/k/\n"
