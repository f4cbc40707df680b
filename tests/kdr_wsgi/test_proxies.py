from __future__ import annotations

import pytest

from kdr_wsgi.proxies import TrustedProxies


@pytest.mark.parametrize(
    ("names", "peer", "is_trusted"),
    [
        ("", "127.0.0.1", False),
        ("", "", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "", False),
        ("unix", "", True),
        ("unix", "127.0.0.1", False),
        ("10.0.0.0/8, unix ,fd00::/8,", "10.9.8.7", True),
        ("10.0.0.0/8, unix ,fd00::/8,", "fd12::1", True),
        ("10.0.0.0/8, unix ,fd00::/8,", "11.0.0.1", False),
        ("0.0.0.0/0", "some-peer", False),
    ],
)
def test_who_is_trusted(names: str, peer: str, is_trusted: bool) -> None:
    assert (peer in TrustedProxies(names)) is is_trusted


@pytest.mark.parametrize("names", ["localhost", "127.0.0.1 10.0.0.1", "10.0.0.1/8", "*", "127.0.0.1:80"])
def test_what_is_no_address_is_refused(names: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|has host bits"):
        TrustedProxies(names)
