"""The relay server's settings; the only reader of the environment in `kdr_wsgi`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.errors import InvalidOption
from hub.settings import DEFAULT_ROUTE, check_route, find_registry_path, normalise_base_url
from kdr_wsgi.proxies import UNIX, TrustedProxies

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its name, and one line of help."""

    name: str
    help: str


SETTINGS = (
    Setting("KDR_REGISTRY", "path of the registry; default: kdr/registry.sqlite below Jupyter's runtime directory"),
    Setting(
        "KDR_BASE_URL", "URL path below which requests may arrive, besides '/'; default: JUPYTERHUB_SERVICE_PREFIX"
    ),
    Setting("KDR_ROUTE", "the segment between the base URL and a key; default: wwtkdr"),
    Setting("KDR_AS_OWNER", "1: whoever can connect reads as the owner, 'private' registrations too; default: 0"),
    Setting(
        "KDR_TRUSTED_PROXIES",
        "addresses or networks of proxies whose X-Forwarded-Proto, -Host and -Prefix are believed, and 'unix' for "
        "whoever comes over a unix socket, separated by commas; default: none",
    ),
    Setting(
        "KDR_BEHIND_RELAY",
        "1: on a unix socket behind the Jupyter relay, whose word on who asks is believed; it sets this itself",
    ),
)


class SettingError(ValueError):
    """A setting has a value that cannot be used, or a name that does not exist."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name} cannot be used: {reason}")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, read once.

    Attributes
    ----------
    registry : Path
    base_url : str
        It begins and ends with a slash.
    route : str
        The segment between the base URL and a key.
    as_owner : bool
    proxies : TrustedProxies
    behind_relay : bool
    """

    registry: Path
    base_url: str
    route: str
    as_owner: bool
    proxies: TrustedProxies
    behind_relay: bool


def read_settings(config: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the environment, with those of `config` over them.

    Parameters
    ----------
    config : mapping of str to str, optional
        Values by the names in `SETTINGS`.

    Raises
    ------
    SettingError
    """
    config = config or {}
    for name in config:
        if name not in {setting.name for setting in SETTINGS}:
            raise SettingError(name, f"there are {', '.join(setting.name for setting in SETTINGS)}")
    values = {**os.environ, **config}
    base_url = normalise_base_url(values.get("KDR_BASE_URL") or values.get("JUPYTERHUB_SERVICE_PREFIX") or "/")
    behind_relay = _parse_bool("KDR_BEHIND_RELAY", values.get("KDR_BEHIND_RELAY", ""))
    # The Jupyter relay writes X-Forwarded-* itself, whatever a browser sends.
    proxies = UNIX if behind_relay else values.get("KDR_TRUSTED_PROXIES", "")
    return Settings(
        registry=find_registry_path(values.get("KDR_REGISTRY") or None),
        base_url=base_url,
        route=_parse_route(values.get("KDR_ROUTE") or DEFAULT_ROUTE),
        as_owner=_parse_bool("KDR_AS_OWNER", values.get("KDR_AS_OWNER", "")),
        proxies=_parse_proxies(proxies),
        behind_relay=behind_relay,
    )


def _parse_route(value: str) -> str:
    try:
        return check_route(value)
    except InvalidOption as error:
        raise SettingError("KDR_ROUTE", f"{value!r}: {error.reason}") from error


def _parse_proxies(value: str) -> TrustedProxies:
    try:
        return TrustedProxies(value)
    except ValueError as error:
        raise SettingError("KDR_TRUSTED_PROXIES", f"{error}; write addresses or networks, or unix") from error


def _parse_bool(name: str, value: str) -> bool:
    folded = value.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise SettingError(name, f"{value!r} is neither 1 nor 0")
