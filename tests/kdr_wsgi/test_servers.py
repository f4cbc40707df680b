"""What runs the application."""

from __future__ import annotations

import pytest
from traitlets import TraitError

from kdr_wsgi import servers
from kdr_wsgi.jupyter.extension import KernelDataRelay


def test_jupyter_is_told_at_its_start_that_a_server_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KernelDataRelay(server="granian").server == "granian"
    monkeypatch.setattr(servers, "find_spec", lambda _name: None)
    with pytest.raises(TraitError, match=r"run: pip install 'kdr-wsgi\[granian\]'"):
        KernelDataRelay(server="granian")


def test_jupyter_refuses_another_server() -> None:
    with pytest.raises(TraitError, match="granian"):
        KernelDataRelay(server="uwsgi")
