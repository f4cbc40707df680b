"""The tables of how many viewers there can be are those that the benchmark prints."""

from __future__ import annotations

import re

import pytest

from benchmarks.scale import Capacity, Viewer, print_model
from tests.docs.blocks import ROOT


def test_the_tables_are_those_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    print_model(Viewer(), Capacity())
    (shown,) = re.findall(r"^```text\n(100 viewers.*?)^```", (ROOT / "docs/viewers.md").read_text(), re.M | re.S)
    assert shown.strip() == capsys.readouterr().out.strip()


def test_the_figures_that_are_taken_for_granted_are_those_of_the_page() -> None:
    page = (ROOT / "docs/viewers.md").read_text().replace(",", "")
    capacity = Capacity()
    for figure in (
        capacity.core,
        capacity.hub_proxy,
        capacity.nginx_core,
        capacity.network_bytes / 1e6,
        capacity.sqlite_writes,
        capacity.postgres_writes,
        capacity.messages,
        capacity.store_requests,
    ):
        assert f"| {figure:.0f} " in page
