"""The command `kdr`."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from hub import HubError, JupyterRelayHub, __version__
from hub.content.cleaning import clean_up
from hub.content.snapshots import SnapshotFolder
from hub.content.verifying import verify
from hub.keys import check_key
from hub.registration import VISIBILITIES, Registration, Source
from hub.registry import Registry
from hub.servers import announced
from hub.settings import find_registry_path
from kdr_wsgi.servers import SERVERS, Run, find_runner
from kdr_wsgi.settings import SETTINGS, SettingError, Settings, read_settings

DEFAULT_BIND = "127.0.0.1:8000"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 told why not on stderr, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A key or a path may hold what the terminal's encoding cannot express.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = int(options.run(options))
        # Here, where a failure is still told; Python's own flush at exit only complains.
        sys.stdout.flush()
        return code
    except (HubError, SettingError, CommandError) as error:
        print(f"kdr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `kdr list | head`: nobody reads on. What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"kdr: {error}", file=sys.stderr)
        return 1


class CommandError(Exception):
    """A command cannot do what it was asked; one sentence says why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kdr", description="Publish files of this machine to a browser, by byte ranges."
    )
    parser.add_argument("--version", action="version", version=f"kdr {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--registry",
        metavar="PATH",
        help="the registry's file (default: KDR_REGISTRY, else kdr/registry.sqlite below Jupyter's runtime directory); "
        "publish, list and revoke use a hub's shared relay server instead where KDR_SERVICE_URL names one",
    )

    serve = commands.add_parser(
        "serve",
        parents=[common],
        help="run the relay server in the foreground",
        description="Serve what is registered. Whoever connects reads what is public; the rest only with --as-owner.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n  ".join(
            (
                "example: kdr serve --bind 127.0.0.1:0 --publish tiles/\n\nfrom the environment:",
                *(f"{setting.name}: {setting.help}" for setting in SETTINGS),
            )
        ),
    )
    serve.add_argument(
        "--bind",
        metavar="HOST:PORT|unix:PATH",
        default=DEFAULT_BIND,
        help=f"default: {DEFAULT_BIND}; port 0: a free one",
    )
    serve.add_argument("--workers", metavar="N", type=_positive_int, default=2, help="processes (default: 2)")
    serve.add_argument(
        "--server",
        choices=SERVERS,
        default=SERVERS[0],
        help=f"what runs the application (default: {SERVERS[0]}); granian is faster, and an extra",
    )
    serve.add_argument(
        "--publish",
        metavar="PATH",
        nargs="+",
        action="extend",
        default=[],
        help="publish these to whoever connects; they stay registered until kdr revoke",
    )
    serve.add_argument(
        "--as-owner", action="store_true", help="let whoever connects read as you do, private registrations too"
    )
    serve.set_defaults(run=_serve)

    publish = commands.add_parser(
        "publish",
        parents=[common],
        help="register a file or a directory and print its partial URL",
        description="Register a file, a directory, or the members of a zip archive (--tree), and print its partial "
        "URL: the server's address goes in front.",
        epilog="example: kdr publish cube.fits --visibility public --ttl 3600",
    )
    publish.add_argument("path", metavar="PATH", help="a file or a directory")
    publish.add_argument("--key", metavar="K", help="the key in the URL (default: a hash of the path)")
    publish.add_argument(
        "--extension", metavar="E", default="", help="appended to a file's name in the URL, '.fits' say"
    )
    publish.add_argument(
        "--tree",
        action="store_true",
        help="the members of a zip archive, as if it were unpacked, not the archive itself",
    )
    publish.add_argument(
        "--content",
        action="store_true",
        help="a content key: the hash of what is published, which the URL never names anything else than",
    )
    publish.add_argument(
        "--snapshot",
        metavar="DIR",
        help="with --content: keep a copy in this directory, so that the URL works when the original changes",
    )
    publish.add_argument(
        "--visibility",
        metavar="V",
        type=_visibility,
        action="append",
        help=f"who may read: {', '.join(VISIBILITIES)} (you alone, the default; who is logged in; all); at a hub's "
        "shared relay server also user:NAME and group:NAME, several of them if it is repeated",
    )
    publish.add_argument("--ttl", metavar="S", type=float, help="seconds until it ends by itself (default: never)")
    publish.set_defaults(run=_publish)

    listing = commands.add_parser(
        "list",
        parents=[common],
        help="show what is registered",
        description="Show what is registered: key, kind, who may read (and whether it is trusted), end, path.",
    )
    listing.add_argument("--json", action="store_true", help="print JSON, with the headers")
    listing.set_defaults(run=_list)

    revoke = commands.add_parser(
        "revoke", parents=[common], help="end a registration", description="End a registration at once."
    )
    revoke.add_argument("key", metavar="KEY", help="as kdr list shows it")
    revoke.set_defaults(run=_revoke)

    gc = commands.add_parser(
        "gc",
        parents=[common],
        help="remove what has expired",
        description="Remove what has expired, and the manifests and indexes that no registration needs any more.",
        epilog="example: kdr gc --snapshots /data/kept",
    )
    gc.add_argument("--missing", action="store_true", help="those too whose file or directory does not exist any more")
    gc.add_argument(
        "--snapshots",
        metavar="DIR",
        action="append",
        default=[],
        help="the copies in this directory, too, that no registration needs any more",
    )
    gc.set_defaults(run=_gc)

    verify = commands.add_parser(
        "verify",
        parents=[common],
        help="read again what a content key promises",
        description="Read all files that a content key promises, print each that is changed, missing or added; "
        "exit code 1 if there is any.",
    )
    verify.add_argument("key", metavar="KEY", help="as kdr list shows it")
    verify.set_defaults(run=_verify)

    doctor = commands.add_parser(
        "doctor",
        parents=[common],
        help="look for what is wrong, and say what to do",
        description="Examine registry, permissions, servers and paths; exit code 1 if anything is bad.",
    )
    doctor.set_defaults(run=_doctor)

    demo = commands.add_parser(
        "demo", parents=[common], help="tile an image, publish it from a notebook, and show it in JupyterLab"
    )
    demo.add_argument("--bind", metavar="HOST:PORT", default="127.0.0.1:0", help="default: a free port of this machine")
    demo.add_argument("--plain", action="store_true", help="without Jupyter: kdr serve, and a page")
    demo.add_argument(
        "--check",
        action="store_true",
        help="run the notebook and read some tiles through the server instead of waiting",
    )
    demo.set_defaults(run=_demo)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from kdr_wsgi import sockets

    config = {"KDR_REGISTRY": str(_registry_path(options))}
    if options.as_owner:
        config["KDR_AS_OWNER"] = "1"
    settings = read_settings(config)
    run = find_runner(options.server)
    hub = JupyterRelayHub(key_prefix="", registry=settings.registry, base_url=settings.base_url, route=settings.route)
    hub.registry.open()
    try:
        listener = sockets.listen(options.bind)
    except sockets.BindError as error:
        raise CommandError(str(error)) from error
    with listener:
        with closing(hub.registry):
            published = [_register(hub, path, visibility="public") for path in options.publish]
        _run_server(run, listener, config, settings, options.workers, published)
    return 0


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
        run(listener, config, workers, when_ready=tell)


def _publish(options: argparse.Namespace) -> int:
    hub = _hub(options)
    chosen: list[str] = options.visibility or ["private"]
    visibility = chosen[0] if len(chosen) == 1 and chosen[0] in VISIBILITIES else chosen
    print(
        _register(
            hub,
            options.path,
            key=options.key,
            extension=options.extension,
            is_tree=options.tree,
            content=options.content,
            snapshot=options.snapshot,
            visibility=visibility,
            ttl=options.ttl,
        )
    )
    return 0


def _register(
    hub: JupyterRelayHub,
    path: str,
    *,
    visibility: str | Sequence[str],
    key: str | None = None,
    extension: str = "",
    is_tree: bool = False,
    content: bool = False,
    snapshot: str | None = None,
    ttl: float | None = None,
) -> str:
    if not (is_tree or os.path.isdir(path)):
        return hub.serve_file(path, extension, key, content=content, snapshot=snapshot, visibility=visibility, ttl=ttl)
    if extension:
        what = "is a directory" if os.path.isdir(path) else "is published by its members (--tree)"
        raise CommandError(f"--extension is for files, and {path!r} {what}")
    return hub.serve_tree(path, key, content=content, snapshot=snapshot, visibility=visibility, ttl=ttl)


def _list(options: argparse.Namespace) -> int:
    registrations = _hub(options).registrar.registrations()
    if options.json:
        print(json.dumps([_to_json(registration, url) for registration, url in registrations], indent=1))
        return 0
    for registration, _ in registrations:
        ends = _describe_end(registration)
        root = _printable(os.fsdecode(registration.root))
        who = ",".join(registration.audience) or registration.visibility
        who += " trusted" if registration.trusted else ""
        if registration.content:
            who += " snapshot" if registration.is_kept else " content"
        print(f"{_printable(registration.key)}  {registration.kind}  {who}  {ends}  {root}")
    if not registrations:
        print("nothing is registered; publish something with: kdr publish PATH", file=sys.stderr)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    if not _hub(options).registrar.revoke(check_key(options.key)):
        raise CommandError(f"the key {options.key!r} is not registered; kdr list shows what is")
    return 0


def _gc(options: argparse.Namespace) -> int:
    from kdr_wsgi.doctor import is_missing

    registry = _open_registry(options)
    folders = [SnapshotFolder(Path(os.path.realpath(name)), registry) for name in options.snapshots]
    # First, so that a wrong name removes nothing.
    for folder in folders:
        folder.check()
    removed = registry.remove_expired(time.time())
    if options.missing:
        for registration in registry.registrations():
            is_gone = all(is_missing(source.root) for source in registration.sources)
            if is_gone and registry.revoke(registration.key):
                removed.append(registration)
    for registration in removed:
        print(f"removed {_printable(registration.key)}  {_printable(os.fsdecode(registration.root))}")
    print(f"{len(removed)} removed")
    registry.forget_hashes(is_missing)
    for what, (files, size_bytes) in clean_up(registry, folders):
        if files or what != "manifests":
            print(f"{what}: {files:,} files removed, {size_bytes:,} bytes")
    return 0


def _verify(options: argparse.Namespace) -> int:
    registry = _open_registry(options)
    registration = registry.find(check_key(options.key))
    if registration is None:
        raise CommandError(f"the key {options.key!r} is not registered; kdr list shows what is")
    if not registration.content:
        raise CommandError(f"{options.key!r} is no content key, and promises nothing; publish with --content for one")
    bad = [place for place in registration.sources if not _verify_at(place, registration, registry)]
    if bad:
        raise CommandError(
            f"{len(bad)} of {len(registration.sources)} places have not what the key promises; "
            "publish again for a key of what is there now"
        )
    return 0


def _verify_at(place: Source, registration: Registration, registry: Registry) -> bool:
    """Read what is at one of the places of a content key; return whether it is as promised."""
    from kdr_wsgi.doctor import is_missing

    where = _printable(os.fsdecode(place.root))
    if is_missing(place.root):
        print(f"missing  {where}")
        return False
    files = size_bytes = different = 0
    at_place = replace(registration, root=place.root, signature=place.signature, is_kept=place.is_kept)
    for verified in verify(at_place, registry):
        files += 1
        size_bytes += verified.size_bytes
        if verified.difference:
            different += 1
            print(f"{verified.difference}  {_printable(os.fsdecode(verified.entry))}")
    verdict = f"{different:,} files are not what the key promises" if different else "as the key promises"
    print(f"{where}: {files:,} files, {size_bytes:,} bytes: {verdict}")
    return not different


def _doctor(options: argparse.Namespace) -> int:
    from kdr_wsgi.doctor import examine

    findings = list(examine(_registry_path(options)))
    for finding in findings:
        print(f"{finding.level:5} {_printable(finding.sentence)}")
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def _demo(options: argparse.Namespace) -> int:
    from kdr_wsgi.demo.pyramid import DemoError, make_pyramid

    packages = ("toasty",) if options.plain else ("toasty", "httptools", "jupyterlab", "ipykernel")
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise CommandError(f"the demonstration needs {', '.join(missing)}; run: pip install 'kdr-wsgi[demo]'")
    if options.bind.startswith("unix:"):
        raise CommandError("a browser opens no unix socket; give --bind HOST:PORT")
    if options.plain:
        from kdr_wsgi.demo.plain import show
    else:
        from kdr_wsgi.demo.lab import show
    # `kill` ends the blocks below as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="kdr-demo-") as folder:
        pyramid = Path(folder) / "pyramid"
        print("tiling an image of a galaxy ...", flush=True)
        make_pyramid(pyramid)
        try:
            show(pyramid, _registry_path(options), options.bind, check=options.check)
        except DemoError as error:
            raise CommandError(str(error)) from error
    return 0


def _registry_path(options: argparse.Namespace) -> Path:
    return find_registry_path(options.registry)


def _open_registry(options: argparse.Namespace) -> Registry:
    return Registry(_registry_path(options))


def _hub(options: argparse.Namespace) -> JupyterRelayHub:
    """Return what registers in the registry that is named, or else where this environment says."""
    return JupyterRelayHub(key_prefix="", registry=options.registry)


def _to_json(registration: Registration, url: str) -> dict[str, object]:
    return {
        "key": registration.key,
        "kind": registration.kind,
        "path": os.fsdecode(registration.root),
        "partial_url": url,
        "visibility": list(registration.audience) or registration.visibility,
        "trusted": registration.trusted,
        "headers": dict(registration.headers),
        "content": registration.content or None,
        "is_snapshot": registration.is_kept,
        "claimed_at": registration.claimed_at,
        "expires_at": registration.expires_at,
    }


def _describe_end(registration: Registration) -> str:
    if registration.expires_at is None:
        return "for ever"
    if registration.is_expired():
        return "expired"
    return f"{registration.expires_at - time.time():.0f} s left"


def _printable(text: str) -> str:
    """Return `text` with what a terminal might act on, or cannot show, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _visibility(text: str) -> str:
    if text in VISIBILITIES or text.startswith(("user:", "group:")):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(VISIBILITIES)}, user:NAME and group:NAME")


def _positive_int(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
