"""Keys on a command line: whole, or by their beginnings as git takes hashes."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hub import JupyterRelayHub
from hub.errors import RegistryError
from hub.keys import check_key, is_hash
from hub.registries import glance_at
from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import CommandError, printable, registry_location

#: As many digits of a hash are shown at least: two of a million keys begin alike once in 10,000 times.
SHORT_DIGITS = 8

#: So many keys are told of those that begin alike.
_CANDIDATES = 5

#: More are no help on a command line.
_COMPLETIONS = 1000

#: Returns the first keys that begin so, up to a limit, in their order.
KeysBeginning = Callable[[str, int], list[str]]

#: In front of it a shared relay server has the owner's name.
_SHORT_HASH = re.compile(rf"(?:.*~)?[0-9a-f]{{{SHORT_DIGITS},64}}(-[0-9a-f]{{0,15}})?", re.DOTALL)


def add_key(parser: argparse.ArgumentParser, takes: str) -> None:
    """Add the argument KEY, which the shell completes; `takes` says what of a key may be given."""
    key = parser.add_argument("key", metavar="KEY", help=takes)
    completing.set_completer(key, complete_key)


def complete_key(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the keys of the registry that begin with `prefix`; changes nothing on the disk."""
    try:
        with glance_at(registry_location(parsed_args)) as registry:
            return registry.keys_beginning(prefix, _COMPLETIONS)
    except (RegistryError, UnicodeEncodeError):
        # A sentence would stand in the midst of what somebody types.
        return []


def find_key(given: str, keys_beginning: KeysBeginning) -> str:
    """Return the key that is `given`, or the only one that begins so.

    Parameters
    ----------
    given : str
    keys_beginning : callable
        Of `keys_of` a hub, or of a registry.

    Raises
    ------
    CommandError
        There is none, or several.
    InvalidKey, HubError
    """
    candidates = keys_beginning(check_key(given), _CANDIDATES + 1)
    if given in candidates:
        return given
    # A whole hash is the beginning of those of the same content with headers of its own; it is not meant for these.
    if not candidates or _digits_at(given):
        raise CommandError(f"the key {given!r} is not registered; kdr list shows what is")
    if len(candidates) > 1:
        told = ", ".join(printable(key) for key in candidates[:_CANDIDATES])
        more = ", ..." if len(candidates) > _CANDIDATES else ""
        raise CommandError(f"several keys begin with {given!r}: {told}{more}; give more of the one that you mean")
    return candidates[0]


def find_hash(given: str, keys_beginning: KeysBeginning) -> str:
    """Return the key that is `given`, or if that is the beginning of a hash, the only one that begins so.

    For what cannot be taken back: a word may be the beginning of another
    (``tiles``, ``tiles-2``), and whoever ends the first one twice must not
    end the second. Of hashes that does not happen. Of what is no beginning
    nobody asks whether it is registered.

    Raises
    ------
    CommandError
        There is none, or several.
    InvalidKey, HubError
    """
    if not _SHORT_HASH.fullmatch(check_key(given)) or _digits_at(given):
        return given
    key = find_key(given, keys_beginning)
    if key != given and not _digits_at(key):
        raise CommandError(f"the key {given!r} is not registered; give {printable(key)!r} whole if you mean that one")
    return key


def keys_of(hub: JupyterRelayHub) -> KeysBeginning:
    """Return what tells of the keys that `hub` registers with."""
    if not hub.service:
        return hub.registry.keys_beginning

    def ask(beginning: str, limit: int) -> list[str]:
        keys = (registration.key for registration, _ in hub.registrar.registrations())
        return sorted(key for key in keys if key.startswith(beginning))[:limit]

    return ask


def shorten(keys: Sequence[str]) -> dict[str, str]:
    """Return of each key, which are in order, what is enough of it on a command line; only hashes become shorter."""
    shortened = {}
    for position, key in enumerate(keys):
        neighbours = [*keys[max(position - 1, 0) : position], *keys[position + 1 : position + 2]]
        shortened[key] = _beginning(key, neighbours)
    return shortened


def short_enough(key: str) -> str:
    """Return `key` as somebody may type it, quoted for the shell."""
    return shlex.quote(_beginning(key, ()))


def _beginning(key: str, neighbours: Iterable[str]) -> str:
    """Return the shortest beginning of a hash that its neighbours in order do not have; of a word all."""
    length = _digits_at(key) or len(key)
    for other in neighbours:
        while length < len(key) and other.startswith(key[:length]):
            length += 1
    return key[:length]


def _digits_at(key: str) -> int:
    """Return up to where a whole hash is shown at least; 0 for a word."""
    owner, separator, name = key.rpartition("~")
    return len(owner) + len(separator) + SHORT_DIGITS if is_hash(name) else 0
