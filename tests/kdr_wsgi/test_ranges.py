from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.ranges import Span, coalesce, parse_range

numbers = st.one_of(st.integers(0, 40), st.integers(0, 10**30))
specs = st.one_of(
    st.builds(lambda first, more: f"{first}-{first + more}", numbers, numbers),
    st.builds(lambda first: f"{first}-", numbers),
    st.builds(lambda last: f"-{last}", numbers),
)
blanks = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def range_sets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A valid range set with the white space and empty elements that RFC 9110, 5.6.1 allows."""
    chosen = draw(st.lists(specs, min_size=1, max_size=6))
    elements = [f"{draw(blanks)}{spec}{draw(blanks)}" for spec in chosen]
    for _ in range(draw(st.integers(0, 2))):
        elements.insert(draw(st.integers(0, len(elements))), draw(blanks))
    return draw(st.sampled_from(["bytes", "Bytes", "BYTES"])) + "=" + ",".join(elements), chosen


def bytes_named(spec: str, size: int) -> set[int]:
    """Return, slowly and by the words of RFC 9110, 14.1.2, the positions that a spec names in `size` bytes."""
    first, _, last = spec.partition("-")
    if first == "":
        return {position for position in range(size) if position >= size - int(last)}
    return {position for position in range(size) if int(first) <= position and (last == "" or position <= int(last))}


@given(range_sets(), st.integers(1, 40))
def test_a_valid_set_names_the_bytes_of_the_slow_oracle(range_set: tuple[str, list[str]], size: int) -> None:
    header, chosen = range_set
    spans = parse_range(header, size)
    assert spans is not None
    wanted = [named for spec in chosen if (named := bytes_named(spec, size))]
    assert [set(range(span.start, span.stop)) for span in spans] == wanted


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8), st.integers(0, 10))
def test_joining_keeps_every_byte_and_adds_only_gaps(pairs: list[tuple[int, int]], gap: int) -> None:
    spans = [Span(start, start + length) for start, length in pairs]
    joined = coalesce(spans, gap)
    wanted = {position for span in spans for position in range(span.start, span.stop)}
    held = [position for span in joined for position in range(span.start, span.stop)]
    assert wanted <= set(held)
    assert len(held) == len(set(held))
    ordered = sorted(joined)
    for before, after in pairwise(ordered):
        assert after.start - before.stop > gap
    for span in joined:
        assert {span.start, span.stop - 1} <= wanted


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8))
def test_joined_spans_come_in_the_order_in_which_they_were_first_named(pairs: list[tuple[int, int]]) -> None:
    spans = [Span(start, start + length) for start, length in pairs]
    joined = coalesce(spans, 0)
    order = [next(j for j, whole in enumerate(joined) if whole.start <= s.start < whole.stop) for s in spans]
    assert list(dict.fromkeys(order)) == list(range(len(joined)))


@given(st.text(alphabet="bytes=0123456789-, \t\x00é٣", max_size=40), st.integers(0, 40))
def test_no_text_is_an_error_and_no_span_leaves_the_file(header: str, size: int) -> None:
    for text in (header, "bytes=" + header):
        for span in parse_range(text, size) or []:
            assert 0 <= span.start < span.stop <= size


def test_numbers_of_thousands_of_digits_are_large_and_no_error() -> None:
    assert parse_range("bytes=0-" + "9" * 8000, 10) == [Span(0, 10)]
    assert parse_range("bytes=" + "9" * 8000 + "-", 10) == []
    assert parse_range("bytes=" + "0" * 8000 + "1-2", 10) == [Span(1, 3)]


def test_of_numbers_beyond_any_file_too_the_last_is_not_below_the_first() -> None:
    assert parse_range("bytes=99999999999999999999-99999999999999999998", 10) is None
    assert parse_range("bytes=099999999999999999999-99999999999999999999", 10) == []


@pytest.mark.parametrize(("header", "spans"), [("bytes=-1", None), ("bytes=0-", []), ("bytes=0-,-1", None)])
def test_an_empty_file_has_no_last_bytes(header: str, spans: list[Span] | None) -> None:
    assert parse_range(header, 0) == spans


def test_content_range_counts_inclusively() -> None:
    assert Span(5, 10).content_range(100) == "bytes 5-9/100"
