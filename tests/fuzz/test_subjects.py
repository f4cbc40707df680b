"""Each subject of `tests.fuzz.subjects` for a moment, and all that has failed before; ``tox -e fuzz`` takes longer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.subjects import SUBJECTS, Subject

SECONDS = 1.0

CASES = Path(__file__).parent / "cases"


@st.composite
def inputs(draw: st.DrawFn, subject: Subject) -> bytes:
    """A seed, or anything, with some damage."""
    data = draw(st.sampled_from(subject.seeds) | st.binary(max_size=100))
    pieces = st.sampled_from(subject.tokens) | st.binary(max_size=4)
    for position, size_bytes, put in draw(
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 8), pieces), max_size=6)
    ):
        start = position % (len(data) + 1)
        data = data[:start] + put + data[start + size_bytes :]
    return data


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_failed_once_and_what_to_begin_from_keep_the_rules(name: str) -> None:
    for path in sorted((CASES / name).glob("*")):
        SUBJECTS[name].check(path.read_bytes())
    for seed in SUBJECTS[name].seeds:
        SUBJECTS[name].check(seed)


@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_comes_keeps_the_rules(name: str) -> None:
    subject = SUBJECTS[name]

    @settings(max_examples=50, database=None)
    @given(inputs(subject))
    def check(data: bytes) -> None:
        begun = time.thread_time()
        subject.check(data)
        # As wide as a regular expression or a parser is slow that goes wrong.
        assert time.thread_time() - begun < 5

    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        check()
