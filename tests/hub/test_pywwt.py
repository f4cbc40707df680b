"""pywwt on this hub: with stand-ins for versions that do not fit, and with the real one in programs of their own."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hub import UnfitPywwt

FITTING = "_global_relay_hub = None\nSTATIC_DIR = {static!r}\ndef get_relay_hub(): return _global_relay_hub or 'own'\n"


def write_pywwt(folder: Path, version: str, relay: str | None) -> None:
    """Write a package that has the shape of a pywwt."""
    package = folder / "pywwt"
    (package / "web_static").mkdir(parents=True)
    info = tuple(map(int, version.split(".")))
    (package / "__init__.py").write_text(f"version_info = {info!r}\n__version__ = {version!r}\n")
    if relay is not None:
        (package / "jupyter_relay.py").write_text(relay.format(static=str(package / "web_static")))


def run(code: str, folder: Path | None = None) -> str:
    """Run a program with the pywwt in `folder`, else with the one that is installed; return what it prints."""
    path = [str(Path(__file__).parents[2]), *([str(folder)] if folder else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-W", "ignore:registered", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_enable_needs_a_pywwt() -> None:
    code = """
import sys
class NoPywwt:
    @staticmethod
    def find_spec(name, *_):
        if name == "pywwt": raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, NoPywwt)
import hub
try: hub.pywwt.enable()
except ImportError as e: print(e)
"""
    assert run(code) == "pywwt is not installed here; run: pip install 'pywwt>=0.26'\n"


@pytest.mark.parametrize("relay", [None, "STATIC_DIR = ''\n", "_global_relay_hub = None\ndef get_relay_hub(): ...\n"])
def test_a_pywwt_that_does_not_fit_is_named(tmp_path: Path, relay: str | None) -> None:
    write_pywwt(tmp_path, "0.9.0", relay)
    printed = run("import hub\ntry: hub.pywwt.enable()\nexcept hub.HubError as e: print(e)", tmp_path)
    assert "pywwt 0.9.0 does not keep its relay's hub where pywwt 0.26 does" in printed
    assert "pip install --upgrade pywwt" in printed


def test_a_pywwt_that_does_not_fit_can_still_be_imported(tmp_path: Path) -> None:
    write_pywwt(tmp_path, "9.0.0", "def get_relay_hub(): return 'own'\n")
    code = "import hub; hub.pywwt.enable_on_import()\nimport pywwt.jupyter_relay as r\nprint(r.get_relay_hub())"
    printed = run(code, tmp_path)
    assert printed.startswith("own\n")
    assert "UserWarning: pywwt does not publish through kdr-wsgi: pywwt 9.0.0 does not keep" in printed


@pytest.mark.parametrize("setting", ["KDR_ROUTE=a b", "KDR_BASE_URL=http://host/"])
def test_a_setting_that_cannot_be_used_does_not_keep_pywwt_from_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    write_pywwt(tmp_path, "0.26.0", FITTING)
    monkeypatch.setenv(*setting.split("=", 1))
    code = "import hub; hub.pywwt.enable_on_import()\nimport pywwt.jupyter_relay as r\nprint(r.get_relay_hub())"
    printed = run(code, tmp_path)
    assert printed.startswith("own\n")
    assert "cannot be used" in printed
    assert "InvalidOption" in run(
        "import hub\ntry: hub.pywwt.enable()\nexcept hub.HubError as e: print(type(e).__name__)", tmp_path
    )


def test_what_is_imported_already_is_warned_of_too(tmp_path: Path) -> None:
    write_pywwt(tmp_path, "9.0.0", "def get_relay_hub(): return 'own'\n")
    code = "import hub, pywwt.jupyter_relay as r; hub.pywwt.enable_on_import(); print(r.get_relay_hub())"
    printed = run(code, tmp_path)
    assert printed.startswith("own\n")
    assert "UserWarning" in printed


@pytest.mark.parametrize("enable", ["enable(visibility='public')", "enable_on_import(visibility='public')"])
def test_a_visibility_that_was_chosen_stays(tmp_path: Path, enable: str) -> None:
    write_pywwt(tmp_path, "0.26.0", FITTING)
    code = f"""
import hub, importlib
hub.pywwt.{enable}
hub.pywwt.load_ipython_extension(None)
import pywwt.jupyter_relay as r
print(r.get_relay_hub().visibility)
importlib.reload(r)
print(r.get_relay_hub().visibility)
hub.pywwt.disable()
print(r.get_relay_hub())
importlib.reload(r)
print(r.get_relay_hub())
"""
    assert run(code, tmp_path) == "public\npublic\nown\nown\n"


def test_what_was_found_before_it_was_disabled_is_left_alone(tmp_path: Path) -> None:
    write_pywwt(tmp_path, "0.26.0", FITTING)
    code = """
import hub, importlib.util
hub.pywwt.enable_on_import()
spec = importlib.util.find_spec("pywwt.jupyter_relay")
hub.pywwt.disable()
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.get_relay_hub())
"""
    assert run(code, tmp_path) == "own\n"


def test_what_pywwt_itself_lacks_is_told_as_it_is(tmp_path: Path) -> None:
    write_pywwt(tmp_path, "0.26.0", "import no_such_module\n")
    code = "import hub\ntry: hub.pywwt.enable()\nexcept ModuleNotFoundError as e: print(type(e).__name__, e.name)"
    assert run(code, tmp_path) == "ModuleNotFoundError no_such_module\n"


def test_disable_gives_pywwts_own_hub_back(tmp_path: Path) -> None:
    write_pywwt(tmp_path, "0.26.0", FITTING)
    code = """
import hub, pywwt.jupyter_relay as r
from pywwt.jupyter_relay import get_relay_hub
r._global_relay_hub = "made before"
hub.pywwt.disable()
print(get_relay_hub())
hub.pywwt.enable(); hub.pywwt.enable(visibility="users")
print(type(get_relay_hub()).__name__, get_relay_hub().visibility)
hub.pywwt.disable(); hub.pywwt.disable()
print(get_relay_hub())
"""
    assert run(code, tmp_path) == "made before\nPywwtRelayHub users\nmade before\n"


def test_a_wrong_visibility_is_told_before_anything_is_imported(tmp_path: Path) -> None:
    code = """
import hub, sys
for enable in (hub.pywwt.enable, hub.pywwt.enable_on_import):
    try: enable(visibility="everybody")
    except hub.InvalidOption as e: print(e)
print("pywwt" in sys.modules)
"""
    sentence = "visibility='everybody' cannot be used: choose one of private, users, public\n"
    assert run(code, tmp_path) == sentence * 2 + "False\n"


REAL = """
import sys, hub
{before}
print("pywwt" in sys.modules)
from pywwt.jupyter_relay import get_relay_hub
import pywwt.jupyter
{after}
made = get_relay_hub()
print(isinstance(made, hub.JupyterRelayHub), made is pywwt.jupyter.get_relay_hub())
print(made.get_static_files_url())
tree, file = made.serve_tree("."), made.serve_file(__import__("hub").__file__, extension=".fits")
print(*(made.registry.find(url.key).visibility for url in (tree, file)))
print(made.registry.find(made.serve_tree(".", visibility="private").key).visibility)
static = made.registry.find(made.get_static_files_url().key)
print(static.trusted, static.root.decode() == pywwt.jupyter_relay.STATIC_DIR)
"""


@pytest.mark.parametrize(
    ("before", "after", "visibility"),
    [
        ("", "hub.pywwt.enable()", "private"),
        ("hub.pywwt.enable_on_import()", "", "private"),
        ("hub.pywwt.enable_on_import(visibility='public')", "", "public"),
        ("", "hub.pywwt.enable_on_import(visibility='users')", "users"),
        ("hub.pywwt.load_ipython_extension(None)", "", "private"),
    ],
)
def test_the_real_pywwt_publishes_through_this_hub(
    before: str, after: str, visibility: str, monkeypatch: pytest.MonkeyPatch, registry_path: Path
) -> None:
    monkeypatch.setenv("KDR_REGISTRY", str(registry_path))
    monkeypatch.setenv("KDR_BASE_URL", "/user/ada/")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    version = importlib.metadata.version("pywwt")
    assert run(REAL.format(before=before, after=after)).splitlines() == [
        "False",
        "True True",
        f"/user/ada/wwtkdr/pywwt_static{version}.final.0/",
        f"{visibility} {visibility}",
        "private",
        "True True",
    ]


def test_without_the_watch_pywwt_keeps_its_own(tmp_path: Path) -> None:
    write_pywwt(tmp_path, "0.26.0", FITTING)
    code = """
import hub, sys
hub.pywwt.load_ipython_extension(None); hub.pywwt.load_ipython_extension(None)
hub.pywwt.unload_ipython_extension(None)
import pywwt.jupyter_relay
print(pywwt.jupyter_relay.get_relay_hub(), len([f for f in sys.meta_path if "hub" in type(f).__module__]))
"""
    assert run(code, tmp_path) == "own 0\n"


def test_the_error_survives_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(UnfitPywwt("0.9.0")))
    assert (error.version, "0.9.0" in str(error)) == ("0.9.0", True)
