"""Where a registry is: in a file of SQLite's, or in a database of PostgreSQL's."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qs, quote, unquote, urlsplit

from blake3 import blake3

from hub.errors import InvalidOption

_SCHEMES = ("postgresql://", "postgres://")

#: What a user sees of a URL that cannot be taken apart: it may have its password anywhere.
_UNREADABLE = "postgresql://..."

#: What libpq takes from behind the question mark instead of from the place in front of it.
_PLACE = ("host", "hostaddr", "port", "dbname")


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """A registry in a database of PostgreSQL's. It shows itself without the password.

    Attributes
    ----------
    url : str
        With the password, where there is one: for libpq alone, and for the environment of processes that we start.
    shown : str
        User, host and database.
    local : Path
        Where on this machine that lies which lies beside the file of other registries: which servers run here, and
        copies of manifests.
    """

    url: str = field(repr=False)
    shown: str = field(compare=False)
    local: Path = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.shown


#: Where a registry is.
Location: TypeAlias = "Path | DatabaseLocation"


def is_database_url(text: str) -> bool:
    """Whether `text` names a database, and not a file."""
    return text.startswith(_SCHEMES)


def parse_database_url(url: str, runtime: Path) -> DatabaseLocation:
    """Return the database that a URL of libpq's names.

    Parameters
    ----------
    url : str
        ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE``
    runtime : Path
        Jupyter's runtime directory.

    Raises
    ------
    InvalidOption
        It is none; the error shows nothing of it.
    """
    scheme, _, rest = url.partition("://")
    authority = rest.replace("?", "/", 1).partition("/")[0]
    account, _, place = authority.rpartition("@")
    if "@" in account or "@" in rest[len(authority) :] or "#" in url or not url.isprintable():
        # What is behind a character that ends the password too early would be shown.
        raise InvalidOption(
            "registry", _UNREADABLE, "write the signs / ? # @ : % of a user or a password as %2F %3F %23 %40 %3A %25"
        )
    user = unquote(account.partition(":")[0])
    try:
        parts = urlsplit(f"{scheme}://{place}{rest[len(authority) :]}")
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise InvalidOption("registry", _UNREADABLE, "it is no URL of a database") from None
    given = {name: query[name][-1] for name in _PLACE if name in query}
    host = given.get("host") or given.get("hostaddr") or place
    if "port" in given and host != place:
        host = f"{host}:{given['port']}"
    database = given.get("dbname") or unquote(parts.path.lstrip("/"))
    user = query["user"][-1] if "user" in query else user
    if not database:
        raise InvalidOption("registry", _UNREADABLE, "it names no database; write postgresql://USER@HOST/DATABASE")
    shown_user = f"{quote(user, safe='')}@" if user else ""
    # Whoever it is: the users of one database share what is in it.
    name = blake3(f"{unquote(host)}\0{database}\0{query.get('options', [''])[-1]}".encode()).hexdigest(8)
    return DatabaseLocation(
        url,
        f"postgresql://{shown_user}{quote(unquote(host), safe=':,[].')}/{quote(database, safe='')}",
        runtime / "kdr" / f"postgresql-{name}" / "registry",
    )


def has_password(url: str) -> bool:
    """Whether somebody who sees the URL of a database knows a password."""
    rest = url.partition("://")[2]
    return ":" in rest.replace("?", "/", 1).partition("/")[0].rpartition("@")[0] or "password=" in rest


def beside(location: Location) -> Path:
    """Return what the files that belong to a registry, and are of this machine, lie beside."""
    return location if isinstance(location, Path) else location.local


def setting_of(location: Location) -> str:
    """Return what ``KDR_REGISTRY`` must be for a process that we start; not to be shown: it may hold a password."""
    return os.fspath(location) if isinstance(location, Path) else location.url
