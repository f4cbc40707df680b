"""Which content coding a client prefers."""

from __future__ import annotations

import gzip
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.encodings import MAX_CHARACTERS, SUFFIXES, gzip_bytes, preferred_codings

#: Accept-Encoding, and the codings that are taken, the best first.
PREFERENCES: list[tuple[str | None, str]] = [
    (None, ""),
    ("", ""),
    ("gzip", "gzip"),
    ("GZip", "gzip"),
    ("x-gzip", "gzip"),
    ("br", "br"),
    ("gzip, deflate, br, zstd", "br zstd gzip"),
    ("gzip,deflate", "gzip"),
    ("zstd, br;q=0.9", "zstd br"),
    ("gzip;q=1.0, br;q=0.5", "gzip br"),
    ("gzip;Q=0.5\t; q=1", ""),
    ("gzip ; q=0.5 , br;q=0.500", "br gzip"),
    ("gzip;q=0", ""),
    ("gzip;q=0.000, br", "br"),
    ("gzip;q=0.001", "gzip"),
    ("*", "br zstd gzip"),
    ("*;q=0", ""),
    ("*;q=0.5, gzip", "gzip br zstd"),
    ("*, br;q=0", "zstd gzip"),
    ("*;q=0, gzip", "gzip"),
    ("identity", ""),
    ("identity;q=0", ""),
    ("identity;q=0, gzip", "gzip"),
    ("identity, gzip", "gzip"),
    ("identity, gzip;q=0.5", ""),
    ("identity;q=0.5, gzip;q=0.5", "gzip"),
    ("identity;q=0.5, gzip;q=0.4, br;q=0.6", "br"),
    ("deflate, compress", ""),
    ("gzip;q=2", ""),
    ("gzip;q=-1", ""),
    ("gzip;q=1.001", ""),
    ("gzip;q=0.0001", ""),
    ("gzip;q=nan", ""),
    ("gzip;q=", ""),
    ("gzip;level=9", ""),
    ("gzip q=1, br", "br"),
    (",,gzip,,", "gzip"),
    (" \tgzip\t ", "gzip"),
    ("gzip;q=1, gzip;q=0", ""),
    ("gzip;q=0, x-gzip", "gzip"),
    ("gz\xefp, gzip", "gzip"),
    ("gzip\n", ""),
    ("gzip;q=\u0661", ""),
    ("gzip," + " " * MAX_CHARACTERS, ""),
]


@pytest.mark.parametrize(("header", "codings"), PREFERENCES)
def test_the_client_weighs_and_the_smaller_one_wins_a_tie(header: str | None, codings: str) -> None:
    assert preferred_codings(header) == tuple(codings.split())


names = st.sampled_from(["br", "zstd", "gzip", "identity", "*", "deflate"])
thousandths = st.integers(0, 1000)
spaces = st.text(" \t", max_size=2)


@st.composite
def weighed(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """A valid header, and the weight of each coding in thousandths."""
    weights = draw(st.dictionaries(names, thousandths))
    parts = []
    for name, weight in weights.items():
        text = "1" if weight == 1000 else f"0.{weight:03}"
        parts.append(f"{draw(spaces)}{name}{draw(spaces)};{draw(spaces)}q={text}{draw(spaces)}")
    return ",".join(parts), weights


@given(weighed())
def test_it_agrees_with_the_rules_one_by_one(case: tuple[str, dict[str, int]]) -> None:
    header, weights = case
    any_other = weights.get("*", 0)
    identity = weights.get("identity", any_other)
    expected = []
    for weight in range(1000, 0, -1):
        if weight >= identity:
            expected += [coding for coding in SUFFIXES if weights.get(coding, any_other) == weight]
    assert preferred_codings(header) == tuple(expected)


@given(st.text() | st.text("gzipbrstd*;,=q01. \t"))
def test_any_text_gives_known_codings_each_once(header: str) -> None:
    codings = preferred_codings(header)
    assert set(codings) <= set(SUFFIXES)
    assert len(set(codings)) == len(codings)


@pytest.mark.parametrize("part", ["gzip;q=0.", " \t", ";", ",", "gzip ", "a", "*;q=0.0", "; q=", "gzip;" + " " * 50])
def test_no_header_takes_long(part: str) -> None:
    for header in (part * (MAX_CHARACTERS // len(part)), part * 100_000):
        begun = time.process_time()
        preferred_codings(header)
        assert time.process_time() - begun < 0.05


def test_the_same_body_gives_the_same_bytes_at_any_time() -> None:
    body = b"a word and another " * 1000
    packed = gzip_bytes(body)
    assert gzip.decompress(packed) == body
    assert packed[4:8] == bytes(4)  # RFC 1952, 2.3.1: no time
    assert gzip_bytes(body) == packed
