"""``kdr migrate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from hub.locations import DatabaseLocation
from hub.registries import check_installed
from hub.settings import find_registry
from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import Command, CommandError, parse_registry, registry_location


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SQLITE", help="the registry's file; it stays as it is")
    target = parser.add_argument(
        "target",
        metavar="POSTGRES",
        nargs="?",
        type=parse_registry,
        help="postgresql://USER@HOST/DATABASE, without a password (default: KDR_REGISTRY)",
    )
    completing.set_completer(target, completing.one_of("postgresql://"))


def _run(options: argparse.Namespace) -> int:
    from kdr_wsgi.usage import UsageUnavailable, read_usage

    target = find_registry(options.target) if options.target else registry_location(options)
    if not isinstance(target, DatabaseLocation):
        raise CommandError(f"{str(target)!r} is no database; name one: postgresql://USER@HOST/DATABASE")
    source = find_registry(options.source)
    if not isinstance(source, Path):
        raise CommandError(f"{str(source)!r} is no file; a registry is copied from SQLite")
    check_installed(target)
    from hub.postgres.migrating import migrate

    try:
        counts = [(key, *usage) for key, usage in read_usage(source).items()]
    except UsageUnavailable as error:
        raise CommandError(str(error)) from error
    migrated = migrate(source, target, counts)
    print(
        f"copied {migrated.registrations:,} registration{'' if migrated.registrations == 1 else 's'} and "
        f"{migrated.manifests:,} manifests and indexes to {target}"
    )
    return 0


COMMAND = Command(
    description="Copy a registry of SQLite's into a database of PostgreSQL's, with all that belongs to it: the URLs "
    "stay the same. All is copied or nothing; a second time, what was claimed in the file since.",
    examples=(
        ("kdr migrate registry.sqlite postgresql://kdr@db.example.org/kdr", "the password is in ~/.pgpass"),
        ("kdr migrate /var/lib/kdr/registry.sqlite", "into what KDR_REGISTRY names"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
