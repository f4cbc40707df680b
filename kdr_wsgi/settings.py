"""The relay server's settings; the only reader of the environment in `kdr_wsgi`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.settings import find_registry_path, normalise_base_url

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
    Setting("KDR_AS_OWNER", "1: whoever can connect reads as the owner, 'private' registrations too; default: 0"),
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
    as_owner : bool
    behind_relay : bool
    """

    registry: Path
    base_url: str
    as_owner: bool
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
    return Settings(
        registry=find_registry_path(values.get("KDR_REGISTRY") or None),
        base_url=base_url,
        as_owner=_parse_bool("KDR_AS_OWNER", values.get("KDR_AS_OWNER", "")),
        behind_relay=_parse_bool("KDR_BEHIND_RELAY", values.get("KDR_BEHIND_RELAY", "")),
    )


def _parse_bool(name: str, value: str) -> bool:
    folded = value.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise SettingError(name, f"{value!r} is neither 1 nor 0")
