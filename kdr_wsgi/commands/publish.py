"""``kdr publish``."""

from __future__ import annotations

import argparse
import shlex
import sys

from hub import PublishedURL
from hub.registration import VISIBILITIES
from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import Command, find_hub, is_terminal, parse_visibility, register
from kdr_wsgi.commands.keys import short_enough


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a file or a directory; or the address of an object, s3://BUCKET/KEY, or s3://BUCKET/PREFIX/",
    )
    parser.add_argument(
        "--tree",
        action="store_true",
        help="the members of a zip archive, as if it were unpacked, not the archive itself",
    )
    key = parser.add_argument("--key", metavar="K", help="the key in the URL (default: a hash of the path)")
    completing.set_completer(key, completing.complete_nothing)
    extension = parser.add_argument(
        "--extension", metavar="E", default="", help="appended to a file's name in the URL, '.fits' say"
    )
    completing.set_completer(extension, completing.complete_nothing)
    parser.add_argument(
        "--content",
        action="store_true",
        help="a content key: the hash of what is published, which the URL never names anything else than",
    )
    parser.add_argument(
        "--snapshot",
        metavar="DIR",
        help="with --content: keep a copy in this directory, so that the URL works when the original changes",
    )
    parser.add_argument(
        "--upload",
        action="store_true",
        help="to a hub's shared relay server that does not see the files: send it those that it lacks (with --content)",
    )
    visibility = parser.add_argument(
        "--visibility",
        metavar="V",
        type=parse_visibility,
        action="append",
        help=f"who may read: {', '.join(VISIBILITIES)} (only you, which is the default; whoever is logged in; "
        "everyone); at a hub's shared relay server also user:NAME and group:NAME, several of them if it is repeated",
    )
    completing.set_completer(visibility, completing.one_of(*VISIBILITIES, "user:", "group:"))
    ttl = parser.add_argument("--ttl", metavar="S", type=float, help="seconds until it ends by itself (default: never)")
    completing.set_completer(ttl, completing.complete_nothing)


def _run(options: argparse.Namespace) -> int:
    chosen: list[str] = options.visibility or ["private"]
    url = register(
        find_hub(options),
        options.path,
        key=options.key,
        extension=options.extension,
        is_tree=options.tree,
        content=options.content,
        snapshot=options.snapshot,
        upload=options.upload,
        visibility=chosen[0] if len(chosen) == 1 and chosen[0] in VISIBILITIES else chosen,
        ttl=options.ttl,
    )
    print(url)
    if is_terminal(sys.stdout) and is_terminal(sys.stderr):
        print(f"open it in the browser: {_opening(url, options.registry)}", file=sys.stderr)
    return 0


def _opening(url: PublishedURL, registry: str | None) -> str:
    """Return the command that opens what was published."""
    where = f" --registry {shlex.quote(registry)}" if registry else ""
    end = " --" if url.key.startswith("-") else ""
    return f"kdr open{where}{end} {short_enough(url.key)}"


COMMAND = Command(
    description="Register a file, a directory, or the members of a zip archive (--tree), and print its partial URL: "
    "the server's address goes in front.",
    examples=(
        ("kdr publish tiles", "a directory, for you alone"),
        ("kdr publish cube.fits --visibility public --ttl 3600", "for everyone, for an hour"),
        ("kdr publish cube.dat --extension .fits --key cube", "under another name, and a key of your choice"),
        ("kdr publish tiles.zip --tree", "the members of an archive, which is not unpacked"),
        ("kdr publish s3://survey/tiles/", "a prefix in an object store that the server's administrator allows"),
        ("kdr publish tiles --upload", "from where a hub's shared relay server does not see it"),
        ("kdr publish tiles --content --snapshot kept", "a URL that never names anything else"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
