from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.jupyterhub.owned_keys import is_key_of, owned_key
from kdr_wsgi.jupyterhub.registrations import STATIC_KEY

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_users_have_a_key_in_common(owner: str, key: str, other: str, others_key: str) -> None:
    made, of_other = owned_key(owner, key), owned_key(other, others_key)
    assert (made == of_other) == ((owner, key) == (other, others_key))
    assert is_key_of(owner, made)
    assert is_key_of(other, made) == (owner == other)
    assert made != STATIC_KEY
    assert not is_key_of(owner, STATIC_KEY)


def test_a_name_that_begins_with_an_underscore_takes_no_key_of_the_server() -> None:
    assert owned_key("_api", "x") == "%5Fapi~x"
    assert owned_key("a~b", "c") == "a%7Eb~c"


def test_a_long_name_leaves_room_for_a_hash() -> None:
    made = owned_key("é" * 255, "0" * 64 + "-" + "0" * 16)
    assert made.startswith("!")
    assert is_key_of("é" * 255, made)
    assert not is_key_of("é" * 254, made)
