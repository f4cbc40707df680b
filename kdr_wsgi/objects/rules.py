"""Which object stores the administrator lets this server read, with which credentials: the file of ``KDR_STORES``.

Nothing in it comes from who publishes or reads: an address that a user gives
chooses among these prefixes, and adds no option to what stands here.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hub.errors import UnusableURL
from hub.object_urls import find_fault, is_object_root, normalise_object_url, split_root
from hub.registration import Source

#: What stands for the name of who has published, as in ``KDR_ROOTS``.
USERNAME = "{username}"

#: The hosts that belong to a scheme, where no endpoint is named.
_HOSTS = {
    "s3": ("amazonaws.com", "amazonaws.com.cn"),
    "gs": ("googleapis.com",),
    "az": ("blob.core.windows.net", "login.microsoftonline.com"),
}

#: Options that name where a store is, by what obstore calls them.
_ENDPOINTS = ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url", "azure_endpoint", "base_url")

#: What others than the owner of the file must not read, unless it comes from the environment.
_SECRET = re.compile(r"secret|password|token|sas|account_key|private|access_key$|service_account", re.IGNORECASE)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class StoreFileError(ValueError):
    """The file of stores cannot be used; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class StoreRule:
    """What may be read below a prefix, and how.

    Attributes
    ----------
    prefix : str
        ``s3://bucket/public``, without a slash at its end; ``{username}`` stands for the name of who has published.
    options : mapping
        For obstore: credentials, region, endpoint.
    hosts : tuple of str
        Hosts that are asked besides the store's own: where credentials come from, say.
    redirect : bool
        Whether browsers are sent to the store, with an address that is signed for a short time.
    redirect_seconds : int
        How long that address holds.
    fresh_seconds : float
        How long the store's word on an object is believed.
    connect_seconds, answer_seconds : float
        What the store may take for a connection, and for an answer with all its bytes and repetitions.
    retries : int
        How often a request that fails is repeated.
    requests : int
        How many requests of one process wait for the store at one time.
    """

    prefix: str
    options: Mapping[str, str] = field(repr=False, hash=False)
    hosts: tuple[str, ...] = ()
    redirect: bool = False
    redirect_seconds: int = 60
    fresh_seconds: float = 1.0
    connect_seconds: float = 3.0
    answer_seconds: float = 15.0
    retries: int = 2
    requests: int = 8

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The only hosts that are ever asked: the store's own, and those that the rule names."""
        own = [urlsplit(self.options[name]).hostname for name in _ENDPOINTS if self.options.get(name)]
        found = tuple(host for host in own if host)
        return (*(found or _HOSTS[self.scheme]), *self.hosts)

    @property
    def is_plain(self) -> bool:
        """Whether the administrator has named an endpoint without TLS."""
        return any(self.options.get(name, "").startswith("http://") for name in _ENDPOINTS)

    @property
    def scheme(self) -> str:
        """``s3``, ``gs`` or ``az``."""
        return self.prefix.partition("://")[0]

    def prefix_of(self, owner: str) -> bytes | None:
        """Return what a user may publish of it; None: nothing."""
        if USERNAME not in self.prefix:
            return self.prefix.encode()
        if not owner or "/" in owner or find_fault(owner):
            return None
        return self.prefix.replace(USERNAME, owner).encode("utf-8", "replace")


class ObjectPlace(NamedTuple):
    """A root in a store that may be read.

    Attributes
    ----------
    rule : StoreRule
    bucket : str
    key : str
        Of the object, or what the keys below begin with, without the slash; empty: all of the bucket.
    """

    rule: StoreRule
    bucket: str
    key: str


class StoreRules:
    """All that may be read.

    Parameters
    ----------
    rules : sequence of StoreRule
    """

    def __init__(self, rules: tuple[StoreRule, ...] = ()) -> None:
        self._rules = rules
        # A registration is served many times by the same rule.
        self.find = lru_cache(4096)(self._find)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def _find(self, root: bytes, owner: str) -> ObjectPlace | None:
        """Return what is at a root; None: it lies below no prefix that its owner may publish."""
        try:
            if normalise_object_url(root) != root:
                return None
        except UnusableURL:  # Of a registry that somebody else has written.
            return None
        found = [
            (len(prefix), rule)
            for rule in self._rules
            if (prefix := rule.prefix_of(owner)) is not None and (root == prefix or root.startswith(prefix + b"/"))
        ]
        if not found:
            return None
        _, bucket, key = split_root(root)
        return ObjectPlace(max(found, key=lambda pair: pair[0])[1], bucket, key)

    def set_apart(self, root: bytes) -> tuple[StoreRules, ObjectPlace]:
        """Return the rules without the one whose prefix is `root`, and what is there, so that nobody publishes from it.

        Raises
        ------
        ValueError
            There is no such rule, or another one reaches there, too.
        """
        own = [rule for rule in self._rules if rule.prefix.encode() == root]
        if not own:
            raise ValueError(
                f"the file of KDR_STORES has no store with the prefix {root.decode()!r}, whose credentials may read, "
                "write, list and delete there"
            )
        others = tuple(rule for rule in self._rules if rule is not own[0])
        for other in others:
            if _overlap(other.prefix, own[0].prefix):
                raise ValueError(
                    f"the store {other.prefix!r} of KDR_STORES reaches there, too, so that users might publish what "
                    "others have uploaded; choose a prefix, or a bucket, of its own"
                )
        _, bucket, key = split_root(root)
        return StoreRules(others), ObjectPlace(own[0], bucket, key)

    def allow(self, source: Source, owner: str) -> bool:
        """Whether a source of a registration is in a store, and its owner may publish it."""
        return is_object_root(source.root) and not source.is_kept and self.find(source.root, owner) is not None

    def seen_by(self, owner: str) -> list[str]:
        """Return the prefixes below which a user may publish."""
        prefixes = (rule.prefix_of(owner) for rule in self._rules)
        return [f"{prefix.decode()}/" for prefix in prefixes if prefix is not None]


def _overlap(one: str, other: str) -> bool:
    """Whether one of two prefixes may lie below the other, whatever the user's name."""
    pairs = zip(one.split("/"), other.split("/"), strict=False)
    return all(first == second or USERNAME in (first, second) for first, second in pairs)


def read_store_file(path: Path, environment: Mapping[str, str]) -> StoreRules:
    """Return what the file of stores says.

    Parameters
    ----------
    path : Path
    environment : mapping
        What ``${NAME}`` in a value stands for.

    Raises
    ------
    StoreFileError
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            told = json.load(file)
    except OSError as error:
        raise StoreFileError(f"{path}: {error.strerror}; name a file of JSON that the relay server may read") from error
    except (ValueError, RecursionError) as error:
        raise StoreFileError(f"{path}: it is no JSON ({error})") from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
        raise StoreFileError(f"{path}: other users can change it; make it yours, or root's, and run: chmod go-w {path}")
    stores = told.get("stores") if isinstance(told, dict) else None
    if not isinstance(stores, list) or not stores or set(told) != {"stores"}:
        raise StoreFileError(f'{path}: it is no object with a list of stores: {{"stores": [{{"prefix": ...}}]}}')
    rules = tuple(_parse_rule(path, store, environment) for store in stores)
    prefixes = [rule.prefix for rule in rules]
    if len({*prefixes}) < len(prefixes):
        raise StoreFileError(f"{path}: a prefix is there twice")
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH) and any(map(_has_secret, stores)):
        raise StoreFileError(
            f"{path}: other users can read the secrets in it; run: chmod 600 {path}, or write ${{NAME}} for each, and "
            "set NAME in the environment of the relay server"
        )
    return StoreRules(rules)


def _has_secret(store: Mapping[str, Any]) -> bool:
    return any(
        _SECRET.search(name) and not _VARIABLE.fullmatch(str(value)) for name, value in store.get("options", {}).items()
    )


_NUMBERS: dict[str, tuple[float, float]] = {
    "redirect_seconds": (1, 3600),
    "fresh_seconds": (0, 3600),
    "connect_seconds": (0.1, 60),
    "answer_seconds": (0.1, 300),
    "retries": (0, 10),
    "requests": (1, 1000),
}


def _parse_rule(path: Path, store: object, environment: Mapping[str, str]) -> StoreRule:
    known = {each.name for each in fields(StoreRule)}
    if not isinstance(store, dict) or not isinstance(store.get("prefix"), str):
        raise StoreFileError(f"{path}: each store is an object with a prefix")
    prefix = store["prefix"]
    here = f"{path}: store {prefix!r}"
    if unknown := sorted(set(store) - known):
        raise StoreFileError(f"{here}: {unknown[0]!r} is not known; there are {', '.join(sorted(known))}")
    options, hosts, redirect = store.get("options", {}), store.get("hosts", []), store.get("redirect", False)
    if not isinstance(options, dict) or not all(isinstance(value, (str, int, bool)) for value in options.values()):
        raise StoreFileError(f"{here}: its options are no object of texts")
    if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
        raise StoreFileError(f"{here}: its hosts are no list of names")
    if not isinstance(redirect, bool):
        raise StoreFileError(f"{here}: redirect is neither true nor false")
    numbers = {name: _parse_number(here, name, store[name]) for name in _NUMBERS if name in store}
    return StoreRule(
        prefix=_parse_prefix(here, prefix),
        options={name: _fill(here, name, value, environment) for name, value in options.items()},
        hosts=tuple(hosts),
        redirect=redirect,
        **numbers,
    )


def _parse_prefix(here: str, prefix: str) -> str:
    if ("{" in prefix.replace(USERNAME, "") or "}" in prefix.replace(USERNAME, "")) or prefix.count(USERNAME) > 1:
        raise StoreFileError(f"{here}: what is in braces is not one {USERNAME}")
    if USERNAME in prefix and USERNAME not in prefix.split("/")[3:]:
        raise StoreFileError(f"{here}: {USERNAME} must be a whole segment behind the bucket")
    try:
        return normalise_object_url(prefix).decode()
    except UnusableURL as error:
        raise StoreFileError(f"{here}: {error.reason}") from None


def _parse_number(here: str, name: str, value: object) -> Any:
    least, most = _NUMBERS[name]
    is_whole = name in ("redirect_seconds", "retries", "requests")
    if (
        isinstance(value, bool)
        or not isinstance(value, int if is_whole else (int, float))
        or not least <= value <= most
    ):
        raise StoreFileError(f"{here}: {name} is no {'whole ' if is_whole else ''}number from {least} to {most}")
    return value


def _fill(here: str, name: str, value: object, environment: Mapping[str, str]) -> str:
    """Return a value of an option with what stands for ``${NAME}``."""

    def find(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise StoreFileError(f"{here}: {name} is to come from ${{{match[1]}}}, which is not in the environment")
        return environment[match[1]]

    if isinstance(value, bool):
        return str(value).lower()
    return _VARIABLE.sub(find, str(value))
