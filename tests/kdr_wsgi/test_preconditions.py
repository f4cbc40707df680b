from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.preconditions import Verdict, evaluate, is_range_current

ETAG = '"abc"'
MODIFIED = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    "date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_all_three_forms_of_a_date_are_understood(date: str) -> None:
    assert evaluate({"HTTP_IF_MODIFIED_SINCE": date}, ETAG, MODIFIED) is Verdict.NOT_MODIFIED
    assert evaluate({"HTTP_IF_MODIFIED_SINCE": date}, ETAG, MODIFIED + 1) is Verdict.PROCEED
    assert is_range_current(date, ETAG, MODIFIED, MODIFIED + 60)


@given(
    st.dictionaries(
        st.sampled_from(["HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"]),
        st.one_of(st.text(max_size=30), st.text(alphabet='"W/*abc, ', max_size=20)),
    )
)
def test_no_header_is_an_error(headers: dict[str, str]) -> None:
    assert evaluate(headers, ETAG, MODIFIED) in Verdict


@given(st.one_of(st.text(max_size=30), st.text(alphabet='"W/abc', max_size=8)))
def test_only_the_very_tag_or_date_makes_a_range_current(value: str) -> None:
    assert is_range_current(value, ETAG, MODIFIED, MODIFIED + 60) == (value == ETAG)


def test_a_date_is_no_strong_validator_while_its_second_lasts() -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert not is_range_current(date, ETAG, MODIFIED, MODIFIED + 0.5)
    assert is_range_current(date, ETAG, MODIFIED, MODIFIED + 1)
