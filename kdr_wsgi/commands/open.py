"""``kdr open``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from hub.errors import RegistryError
from hub.registration import Registration
from hub.registries import glance_at
from hub.settings import SAFE_IN_PATHS
from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import Command, CommandError, find_hub, printable, registry_location
from kdr_wsgi.commands.keys import add_key, find_key, keys_of

#: More are no help on a command line.
_COMPLETIONS = 1000


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_key(parser, "as kdr list shows it, or a beginning of it that no other has")
    entry = parser.add_argument("entry", metavar="ENTRY", nargs="?", default="", help="a path below a directory's root")
    completing.set_completer(entry, _complete_entry)
    parser.add_argument("--print", action="store_true", help="print the URL, and open no browser")


def _run(options: argparse.Namespace) -> int:
    from kdr_wsgi.commands.addresses import find_address, find_address_on_hub

    hub = find_hub(options)
    key = find_key(options.key, keys_of(hub))
    if hub.service:
        found = {registration.key: (registration, url) for registration, url in hub.registrar.registrations()}
        registration, partial_url = found.get(key, (None, ""))
    else:
        registration, partial_url = hub.registry.find(key), ""
    if registration is None or registration.is_expired():
        raise CommandError(f"the registration {printable(key)!r} has expired; publish it again")
    entry = _quote_entry(registration, options.entry)
    if hub.service:
        url = find_address_on_hub(partial_url + entry)
    else:
        url = find_address(hub.registry.location, registration, entry)
    print(url, flush=True)
    if not options.print and not _open_browser(url):
        print("kdr: no browser is known here (BROWSER names one); open the URL in yours", file=sys.stderr)
    return 0


def _quote_entry(registration: Registration, entry: str) -> str:
    """Return what of a URL names a file of a tree.

    Raises
    ------
    CommandError
    """
    if entry and registration.kind == "file":
        raise CommandError(f"{printable(registration.key)!r} is a file, and has no {entry!r}; leave ENTRY out")
    return quote(os.fsencode(entry).lstrip(b"/"), safe=SAFE_IN_PATHS)


def _open_browser(url: str) -> bool:
    import webbrowser

    return webbrowser.open(url)


def _complete_entry(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the files and folders of a tree whose paths begin with `prefix`."""
    with suppress(RegistryError, UnicodeEncodeError, OSError, ValueError):
        return list(_entries_beginning(prefix, parsed_args))
    # A sentence would stand in the midst of what somebody types.
    return []


def _entries_beginning(prefix: str, options: argparse.Namespace) -> Iterator[str]:
    with glance_at(registry_location(options)) as registry:
        keys = registry.keys_beginning(options.key, 2)
        root = registry.find_root(options.key if options.key in keys else keys[0]) if keys else None
    if root is None:
        return
    folder, _, beginning = prefix.rpartition("/")
    if ".." in folder.split("/"):
        return
    with os.scandir(os.path.join(os.fsdecode(root), folder)) as entries:
        found = 0
        for entry in entries:
            if entry.name.startswith(beginning) and found < _COMPLETIONS:
                found += 1
                yield os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")


COMMAND = Command(
    description="Find a running server that serves a registration, print its URL there and open it in the browser. "
    "A Jupyter server may ask the browser for a login.",
    examples=(
        ("kdr open cube", ""),
        ("kdr open 3f2a9c1b 3/1/1_2.png", "a file of a directory; of a hash a beginning is enough"),
        ("kdr open cube --print", "only the URL, without a browser"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
