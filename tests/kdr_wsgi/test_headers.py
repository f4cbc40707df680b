from __future__ import annotations

import pytest

from kdr_wsgi.headers import add_vary, vary_by_encoding


@pytest.mark.parametrize(
    ("there", "added", "expected"),
    [
        ([], "Accept-Encoding", "Accept-Encoding"),
        (["Cookie, Authorization"], "Accept-Encoding", "Cookie, Authorization, Accept-Encoding"),
        (["accept-encoding"], "Accept-Encoding", "accept-encoding"),
        (["Accept-Encoding", "Cookie,,Accept-encoding"], "Origin", "Accept-encoding, Cookie, Origin"),
        (["*"], "Accept-Encoding", "*"),
        (["Cookie, *"], "Origin", "*"),
        ([""], "Origin", "Origin"),
    ],
)
def test_there_is_one_vary_that_names_each_header_once(there: list[str], added: str, expected: str) -> None:
    headers = [("vary", value) for value in there]
    assert add_vary([("ETag", '"a"'), *headers], added) == [("ETag", '"a"'), ("Vary", expected)]


def test_headers_that_vary_by_encoding_are_those_that_came_and_vary() -> None:
    assert vary_by_encoding((("A", "b"),)) == (("A", "b"), ("Vary", "Accept-Encoding"))
