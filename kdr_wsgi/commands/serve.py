"""``kdr serve``."""

from __future__ import annotations

import argparse
import shlex
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing

from hub import JupyterRelayHub, PublishedURL
from hub.locations import setting_of
from hub.object_urls import is_object_url, normalise_object_url
from hub.servers import announced
from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import (
    Command,
    CommandError,
    describe_readers,
    parse_positive_int,
    register,
    registry_location,
)
from kdr_wsgi.servers import SERVERS, Run, find_runner
from kdr_wsgi.settings import SETTINGS, SettingError, Settings, read_settings

DEFAULT_BIND = "127.0.0.1:8000"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    bind = parser.add_argument(
        "--bind",
        metavar="HOST:PORT|unix:PATH",
        default=DEFAULT_BIND,
        help=f"default: {DEFAULT_BIND}; port 0: a free one",
    )
    completing.set_completer(bind, completing.one_of("127.0.0.1:", "unix:"))
    workers = parser.add_argument(
        "--workers", metavar="N", type=parse_positive_int, default=2, help="processes (default: 2)"
    )
    completing.set_completer(workers, completing.complete_nothing)
    parser.add_argument(
        "--server",
        choices=SERVERS,
        default=SERVERS[0],
        help=f"what runs the application (default: {SERVERS[0]}); granian is faster, and an extra",
    )
    parser.add_argument(
        "--publish",
        metavar="PATH",
        nargs="+",
        action="extend",
        default=[],
        help="publish these to whoever connects; they stay registered until kdr revoke",
    )
    parser.add_argument(
        "--as-owner", action="store_true", help="let whoever connects read as you do, private registrations too"
    )


def _run(options: argparse.Namespace) -> int:
    from kdr_wsgi import sockets

    config = {"KDR_REGISTRY": setting_of(registry_location(options))}
    if options.as_owner:
        config["KDR_AS_OWNER"] = "1"
    try:
        settings = read_settings(config)
        _check_objects(options.publish, settings)
        run = find_runner(options.server)
    except SettingError as error:
        raise CommandError(str(error)) from error
    hub = JupyterRelayHub(key_prefix="", registry=settings.registry, base_url=settings.base_url, route=settings.route)
    hub.registry.open()
    try:
        listener = sockets.listen(options.bind)
    except sockets.BindError as error:
        raise CommandError(str(error)) from error
    with listener:
        with closing(hub.registry):
            published = [_publish(hub, path) for path in options.publish]
        _run_server(run, listener, config, settings, options.workers, [str(url) for url in published])
    return 0


def _check_objects(paths: Sequence[str], settings: Settings) -> None:
    """Raise CommandError for an address of an object store that this server may not read."""
    for path in paths:
        if is_object_url(path) and settings.stores.find(normalise_object_url(path), "") is None:
            raise CommandError(
                f"{path!r} lies below no prefix of an object store that this server may read; add it to the file that "
                "KDR_STORES names"
            )


def _publish(hub: JupyterRelayHub, path: str) -> PublishedURL:
    """Publish for whoever connects, and warn if that had been for fewer."""
    before = {registration.key: registration for registration in hub.registry.registrations()}
    url = register(hub, path, visibility="public")
    if url.key in before and before[url.key].visibility != "public":
        readers, place = describe_readers(before[url.key]), shlex.quote(path)
        print(
            f"kdr: warning: {place} was registered already ({readers}), and is public from now on; "
            f"to take that back: kdr publish {place}",
            file=sys.stderr,
        )
    return url


def _run_server(
    run: Run, listener: socket.socket, config: dict[str, str], settings: Settings, workers: int, published: list[str]
) -> None:
    from kdr_wsgi import sockets

    url = sockets.url_of(listener)
    if settings.as_owner and not url.startswith("unix:"):
        whoever = "every user of this machine" if sockets.is_loopback(listener) else "whoever reaches this machine"
        print(f"kdr: warning: {whoever} can read your private registrations at {url}", file=sys.stderr)

    def tell() -> None:
        print(f"listening on {url}", flush=True)
        for path in published:
            print(path if url.startswith("unix:") else url + path, flush=True)

    with ExitStack() as stack:
        try:
            stack.enter_context(announced(settings.registry, "kdr serve", url, settings.route))
        except OSError as error:
            print(f"kdr: warning: kernels cannot see that their files are served: {error}", file=sys.stderr)
        try:
            run(listener, config, workers, when_ready=tell)
        except SettingError as error:
            raise CommandError(str(error)) from error


COMMAND = Command(
    description="Serve what is registered. Whoever connects reads what is public; the rest only with --as-owner.",
    examples=(
        ("kdr serve", f"on {DEFAULT_BIND}; Ctrl-C ends it"),
        ("kdr serve --bind 127.0.0.1:0 --publish tiles", "on a free port, and publish a directory"),
        ("kdr serve --bind unix:relay.sock --as-owner", "on a socket that only you can open"),
    ),
    add_arguments=_add_arguments,
    run=_run,
    notes="\n".join(("from the environment:", *(f"  {setting.name}: {setting.help}" for setting in SETTINGS))),
)
