"""The proxies in front whose word the administrator believes."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Union

#: What stands for the peers of a unix socket, which have no address.
UNIX = "unix"


class TrustedProxies:
    """A set of peers, by their addresses.

    Parameters
    ----------
    names : str
        Addresses, networks (``10.0.0.0/8``) and ``unix``, separated by commas.

    Raises
    ------
    ValueError
        One of them is none of these.
    """

    def __init__(self, names: str = "") -> None:
        listed = [name.strip() for name in names.split(",") if name.strip()]
        self._has_unix = UNIX in listed
        self._networks: list[Union[IPv4Network, IPv6Network]] = [ip_network(name) for name in listed if name != UNIX]

    def __bool__(self) -> bool:
        return self._has_unix or bool(self._networks)

    def __contains__(self, peer: str) -> bool:
        """Whether `peer`, a WSGI server's REMOTE_ADDR, is one of them."""
        if not peer:
            return self._has_unix
        if not self._networks:
            return False
        try:
            address = ip_address(peer)
        except ValueError:  # What some servers say of a unix socket's peer is no address.
            return False
        # So an IPv4 peer is called on a socket that listens to both.
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
