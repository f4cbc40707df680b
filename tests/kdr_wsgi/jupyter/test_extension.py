"""The extension's configuration, and how Jupyter finds it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from traitlets import TraitError

import kdr_wsgi
from hub.version import VERSION
from kdr_wsgi.jupyter.extension import KernelDataRelay


def test_the_documentation_lists_every_setting() -> None:
    text = (Path(__file__).parents[3] / "docs" / "jupyter.md").read_text()
    names = KernelDataRelay.class_own_traits(config=True)
    assert {"workers", "registry_path", "public_without_login", "allowed_origins"} <= {*names}
    for name in names:
        assert f"`c.KernelDataRelay.{name}`" in text


@pytest.mark.parametrize("origin", ["*", "viewer.example", "https://viewer.example/page", "null", ""])
def test_an_allowed_origin_is_an_origin(origin: str) -> None:
    with pytest.raises(TraitError, match="is no origin; write https://HOST"):
        KernelDataRelay(allowed_origins=[origin])


@pytest.mark.parametrize("route", ["", "a/b", "_kdr", "a b"])
def test_a_route_is_one_word(route: str) -> None:
    with pytest.raises(TraitError, match="write one word"):
        KernelDataRelay(route=route)


@pytest.mark.parametrize("route", ["api", "lab", "static", "files", "hub"])
def test_a_route_is_none_of_jupyters(route: str) -> None:
    with pytest.raises(TraitError, match="is Jupyter's own; choose another word"):
        KernelDataRelay(route=route)


def test_the_route_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KernelDataRelay().route == "wwtkdr"
    monkeypatch.setenv("KDR_ROUTE", "kdr")
    assert KernelDataRelay().route == "kdr"
    monkeypatch.setenv("KDR_ROUTE", "a/b")
    with pytest.raises(TraitError, match="write one word"):
        KernelDataRelay().route  # noqa: B018  # it is looked up when it is asked for


def test_without_its_packages_the_extension_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.startswith("kdr_wsgi.jupyter"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs httptools; .* run: pip install 'kdr-wsgi\[jupyter\]'"):
        kdr_wsgi._jupyter_server_extension_points()


def test_what_jupyterlab_loads_is_of_this_version_and_of_nobody_else() -> None:
    folder = Path(__file__).parents[3] / "labextension"
    built = folder / "built"
    for path in (folder / "package.json", built / "package.json"):
        assert json.loads(path.read_text())["version"] == VERSION
    loaded = json.loads((built / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    assert (built / loaded).is_file()
    assert json.loads((built / "static" / "third-party-licenses.json").read_text()) == {"packages": []}
    # Built from what is there: each word that the source shows to people is in it.
    text = "".join(path.read_text() for path in (built / "static").glob("*.js"))
    source = (folder / "src" / "index.js").read_text()
    for said in re.findall(r"'([A-Z][^']* [^']*)'", source):
        assert said in text, "run npm run build in labextension/"
