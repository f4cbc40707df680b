from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidOption
from hub.registrar import Claim
from hub.registration import Registration
from hub.wire import claim_from_json, claim_to_json, registration_from_json, registration_to_json

PATHS = st.binary(max_size=20).map(lambda rest: b"/" + rest.replace(b"\0", b""))
NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)
VISIBILITIES = st.sampled_from(
    [("private", ()), ("users", ()), ("public", ()), ("listed", ("user:bob",)), ("listed", ("group:a b", "user:é"))]
)
REGISTRATIONS = st.builds(
    lambda kind, root, name, visibility, trusted, content: Registration(
        key="",
        kind=kind,
        root=root,
        name=name if kind == "file" else b"",
        visibility=visibility[0],
        trusted=trusted,
        headers=(("X-A", "b"),),
        content=content,
        signature=bytes(32) if content else b"",
        audience=visibility[1],
    ),
    st.sampled_from(["file", "tree"]),
    PATHS,
    NAMES,
    VISIBILITIES,
    st.booleans(),
    st.sampled_from(["", "0f" * 32]),
)


@given(REGISTRATIONS, PATHS, st.sampled_from([b"", b".fits"]), st.sampled_from([None, 3.5]))
def test_a_claim_arrives_as_it_was_sent(
    registration: Registration, place: bytes, extension: bytes, ttl: float | None
) -> None:
    claim = Claim(registration, place, extension, ttl)
    assert claim_from_json(json.loads(json.dumps(claim_to_json(claim)))) == claim


@given(REGISTRATIONS)
def test_a_registration_arrives_as_it_was_sent(registration: Registration) -> None:
    told = json.loads(json.dumps(registration_to_json(registration)))
    assert registration_from_json(told) == registration


GOOD: dict[str, Any] = claim_to_json(Claim(Registration("", "file", b"/a", b"a"), b"/a", b"", None))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "device"),
        ("kind", None),
        ("root", "a"),
        ("root", "/a%00"),
        ("root", 1),
        ("place", ""),
        ("name", ""),
        ("name", "a%2Fb"),
        ("name", "a%00"),
        ("visibility", "everybody"),
        ("visibility", []),
        ("visibility", ["bob"]),
        ("visibility", ["user:"]),
        ("visibility", ["user:a\n"]),
        ("visibility", ["user:a"] * 101),
        ("trusted", "yes"),
        ("headers", {"Content-Length": "1"}),
        ("headers", {"X": "a\r\nb"}),
        ("headers", []),
        ("content", "0F" * 32),
        ("content", "00"),
        ("content", "../.."),
        ("content", "0f" * 31 + "0\nf"),
        ("ttl", -1),
        ("ttl", "1"),
        ("is_kept", 1),
        ("key", None),
        ("extension", "/"),
        *((name, "/\ud800") for name in ("root", "place", "name", "extension")),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidOption):
        claim_from_json({**GOOD, field: value})


@pytest.mark.parametrize("field", sorted(GOOD.keys() - {"ttl", "owner", "claimed_at", "expires_at", "signature"}))
def test_what_is_missing_is_told_by_name(field: str) -> None:
    with pytest.raises(InvalidOption, match=field):
        claim_from_json({name: value for name, value in GOOD.items() if name != field})


TOLD: dict[str, Any] = registration_to_json(Registration("k", "file", b"/a", b"a"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", None),
        ("root", 1),
        ("root", "/\ud800"),
        ("visibility", 1),
        ("headers", []),
        ("trusted", "no"),
        ("signature", "zz"),
        ("expires_at", "1"),
        ("expires_at", True),
        ("expires_at", float("nan")),
        ("claimed_at", 1e300),
    ],
)
def test_a_registration_that_is_none_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=field):
        registration_from_json({**TOLD, field: value})


@pytest.mark.parametrize("field", sorted(TOLD.keys() - {"expires_at", "claimed_at"}))
def test_what_a_registration_lacks_is_told_by_name(field: str) -> None:
    with pytest.raises(InvalidOption, match=field):
        registration_from_json({name: value for name, value in TOLD.items() if name != field})


def test_a_signature_is_one_of_a_file_or_none() -> None:
    told = {**GOOD, "content": "0f" * 32}
    for signature in ("zz", "00"):
        with pytest.raises(InvalidOption):
            claim_from_json({**told, "signature": signature})
