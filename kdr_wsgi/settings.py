"""The relay server's settings; the only reader of the environment in `kdr_wsgi`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hub.errors import InvalidOption, UnusableURL
from hub.locations import DatabaseLocation, Location, beside
from hub.object_urls import normalise_object_url
from hub.registries import GRACE_SECONDS
from hub.settings import DEFAULT_ROUTE, check_route, find_registry, normalise_base_url
from kdr_wsgi.hosts import KnownHosts
from kdr_wsgi.jupyterhub.roots import AllowedRoots
from kdr_wsgi.objects.rules import StoreFileError, StoreRules, read_store_file
from kdr_wsgi.objects.uploads import UploadPlace
from kdr_wsgi.proxies import UNIX, TrustedProxies

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

#: What means itself in an nginx.conf, in a header and in a URL.
_PLAIN_PATH = re.compile(r"(?:/[0-9A-Za-z_-]+)+/?")


#: Python makes no numbers of thousands of digits.
_NUMBER = re.compile(r"[0-9]{1,100}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its name, and one line of help."""

    name: str
    help: str


SETTINGS = (
    Setting(
        "KDR_REGISTRY",
        "path of the registry, or postgresql://USER@HOST/DATABASE; default: kdr/registry.sqlite below Jupyter's "
        "runtime directory",
    ),
    Setting(
        "KDR_REGISTRY_GRACE",
        "with a registry in PostgreSQL: for how many seconds known keys are served while it does not answer; "
        "default: 60",
    ),
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
        "KDR_HOSTS",
        "over TCP: the names by which browsers may ask this server besides localhost, addresses and the machine's own "
        "name, separated by commas; .example.org for all below it, * for any; default: none",
    ),
    Setting(
        "KDR_NGINX_ACCEL",
        "behind an nginx that is set up as examples/nginx.conf: the URL path below which it takes files of this "
        "machine, /_kdr_files say, so that it sends the large ones; default: none",
    ),
    Setting("KDR_CACHE_BYTES", "what small files may take of each worker's memory; default: 67108864"),
    Setting(
        "KDR_STORES",
        "a file of JSON that says which object stores (s3://, gs://, az://) may be published from, and with which "
        "credentials; default: none",
    ),
    Setting(
        "KDR_BEHIND_RELAY",
        "1: on a unix socket behind the Jupyter relay, whose word on who asks is believed; it sets this itself",
    ),
    Setting(
        "KDR_ROOTS",
        "as a service of a JupyterHub: the folders below which each user may publish, separated by colons, "
        "/home/{username}:/data/shared say; SEEN_AS=FOLDER where the users' servers see it elsewhere",
    ),
    Setting(
        "KDR_LOGIN_SECONDS",
        "as a service of a JupyterHub: for how long the hub's word on a login or a token is believed, so that a "
        "logout counts at the latest then; default: 60",
    ),
    Setting("KDR_USER_REGISTRATIONS", "as a service of a JupyterHub: how many each user may have; default: 10000"),
    Setting(
        "KDR_USER_MANIFEST_BYTES",
        "as a service of a JupyterHub: what the manifests of a user's content keys may take; default: 1073741824",
    ),
    Setting(
        "KDR_USER_HASHING_BYTES",
        "as a service of a JupyterHub: how much each worker reads again a minute of a user's files that were touched "
        "after they were hashed; default: 1073741824",
    ),
    Setting(
        "KDR_UPLOADS",
        "as a service of a JupyterHub: the prefix of a store of KDR_STORES, s3://bucket/kdr-uploads/ say, below which "
        "it keeps what kernels upload whose files it does not see; default: none, and it takes no uploads",
    ),
    Setting(
        "KDR_USER_UPLOAD_BYTES",
        "as a service of a JupyterHub: what the uploads of each user may take; default: 107374182400",
    ),
)


class SettingError(ValueError):
    """A setting has a value that cannot be used, or a name that does not exist."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name} cannot be used: {reason}")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What a service of a JupyterHub has besides.

    Attributes
    ----------
    name : str
        Of the service.
    api_url, api_token : str
        Where the hub answers the service, and what lets the service ask.
    client_id : str
        What the hub's login knows the service by.
    host : str
        Of the service alone, scheme and all; empty where all that the hub serves has one host.
    hub_host : str
        The hub's own, scheme and all; empty where there is one host.
    roots : AllowedRoots
        What users may publish.
    login_seconds : float
    max_registrations, max_manifest_bytes, max_hashing_bytes : int
        Of each user; the last one a minute.
    uploads : UploadPlace or None
        Where uploads are kept; None: none are taken.
    max_upload_bytes : int
        Of each user.
    """

    name: str
    api_url: str
    api_token: str = field(repr=False)
    client_id: str
    host: str
    hub_host: str
    roots: AllowedRoots
    login_seconds: float
    max_registrations: int
    max_manifest_bytes: int
    max_hashing_bytes: int
    uploads: UploadPlace | None
    max_upload_bytes: int

    @property
    def has_safe_host(self) -> bool:
        """Whether no other host can set this one's cookies: it has one of its own, with TLS."""
        return self.host.startswith("https:")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, read once.

    Attributes
    ----------
    registry : path or DatabaseLocation
    grace_seconds : int
        For how long known keys are served while a database does not answer.
    base_url : str
        It begins and ends with a slash.
    route : str
        The segment between the base URL and a key.
    as_owner : bool
    proxies : TrustedProxies
    hosts : KnownHosts
    nginx_prefix : str
        Below what URL path an nginx in front takes files, without a slash at its end; empty: nowhere.
    cache_bytes : int
        What small files may take of each worker's memory.
    behind_relay : bool
    stores : StoreRules
        Which object stores may be read.
    service : ServiceSettings or None
        None: this is no service of a JupyterHub.
    """

    registry: Location
    grace_seconds: int
    base_url: str
    route: str
    as_owner: bool
    proxies: TrustedProxies
    hosts: KnownHosts
    nginx_prefix: str
    cache_bytes: int
    behind_relay: bool
    stores: StoreRules
    service: ServiceSettings | None


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
    named = "KDR_BASE_URL" if values.get("KDR_BASE_URL") else "JUPYTERHUB_SERVICE_PREFIX"
    base_url = _parse_base_url(named, values.get(named) or "/")
    behind_relay = _parse_bool("KDR_BEHIND_RELAY", values.get("KDR_BEHIND_RELAY", ""))
    # The Jupyter relay writes X-Forwarded-* itself, whatever a browser sends.
    proxies = UNIX if behind_relay else values.get("KDR_TRUSTED_PROXIES", "")
    # Of what a hub starts, its services alone have a name of a service.
    is_service = bool(values.get("JUPYTERHUB_SERVICE_NAME")) and not behind_relay
    if values.get("KDR_ROOTS") and not is_service and not behind_relay:
        raise SettingError(
            "KDR_ROOTS",
            "it is for a service of a JupyterHub; set JUPYTERHUB_SERVICE_NAME, and what else docs/jupyterhub.md names",
        )
    registry = _find_registry(values.get("KDR_REGISTRY") or None)
    route = _parse_route(values.get("KDR_ROUTE") or DEFAULT_ROUTE)
    stores, uploads = set_uploads_apart(read_stores(values), values)
    return Settings(
        registry=registry,
        grace_seconds=_parse_number(values, "KDR_REGISTRY_GRACE", GRACE_SECONDS, least=0),
        base_url=base_url,
        route=route,
        as_owner=_parse_bool("KDR_AS_OWNER", values.get("KDR_AS_OWNER", "")),
        proxies=_parse_proxies(proxies),
        hosts=_parse_hosts(values.get("KDR_HOSTS", "")),
        # What stands in front of this one is Jupyter.
        nginx_prefix="" if behind_relay else _parse_nginx_prefix(values.get("KDR_NGINX_ACCEL", ""), proxies),
        cache_bytes=_parse_number(values, "KDR_CACHE_BYTES", 64 << 20),
        behind_relay=behind_relay,
        stores=stores,
        service=_read_service(values, registry, route, uploads) if is_service else None,
    )


def read_stores(values: Mapping[str, str] | None = None) -> StoreRules:
    """Return what the file says that KDR_STORES names, in `values` or in the environment.

    Raises
    ------
    SettingError
    """
    values = os.environ if values is None else values
    path = values.get("KDR_STORES")
    if not path:
        return StoreRules()
    try:
        rules = read_store_file(Path(path), values)
    except StoreFileError as error:
        raise SettingError("KDR_STORES", str(error)) from error
    if find_spec("obstore") is None:
        raise SettingError(
            "KDR_STORES", "it needs obstore; where the relay server runs: pip install 'kdr-wsgi[object-store]'"
        )
    return rules


def set_uploads_apart(
    stores: StoreRules, values: Mapping[str, str] | None = None
) -> tuple[StoreRules, UploadPlace | None]:
    """Return the stores that users may publish from, and the place that KDR_UPLOADS names, which is none of them.

    Raises
    ------
    SettingError
    """
    values = os.environ if values is None else values
    named = values.get("KDR_UPLOADS")
    if not named:
        return stores, None
    try:
        root = normalise_object_url(named)
        others, place = stores.set_apart(root)
    except UnusableURL as error:
        raise SettingError("KDR_UPLOADS", error.reason) from error
    except ValueError as error:
        raise SettingError("KDR_UPLOADS", str(error)) from error
    return others, UploadPlace(root, place)


def _read_service(
    values: Mapping[str, str], registry: Location, route: str, uploads: UploadPlace | None
) -> ServiceSettings:
    for name, remedy in (
        ("JUPYTERHUB_SERVICE_PREFIX", "it is where the hub's proxy leads to it, /services/kdr/ say"),
        ("KDR_REGISTRY", "name a file in a folder of the service's own, /var/lib/kdr/registry.sqlite say"),
        ("KDR_ROOTS", "name the folders that users may publish, /home/{username}:/data/shared say"),
        ("JUPYTERHUB_API_TOKEN", "it is the token that the hub's configuration gives to the service"),
    ):
        if not values.get(name):
            raise SettingError(name, f"a service of a JupyterHub needs it; {remedy}")
    if route != DEFAULT_ROUTE:
        raise SettingError("KDR_ROUTE", f"the kernels of a hub look for its service below {DEFAULT_ROUTE!r}")
    if _parse_bool("KDR_AS_OWNER", values.get("KDR_AS_OWNER", "")):
        raise SettingError("KDR_AS_OWNER", "a service of a JupyterHub serves many owners")
    roots = _parse_roots(values["KDR_ROOTS"])
    if roots.may_hold(beside(registry)):
        if isinstance(registry, DatabaseLocation):
            raise SettingError(
                "JUPYTER_RUNTIME_DIR",
                f"copies of what is in the database would lie in {registry.local.parent}, which users may publish "
                "(KDR_ROOTS); name a folder elsewhere",
            )
        raise SettingError("KDR_REGISTRY", "it lies in a folder that users may publish (KDR_ROOTS); put it elsewhere")
    name = values["JUPYTERHUB_SERVICE_NAME"]
    hub_host = values.get("JUPYTERHUB_HOST", "")
    public = _split_url("JUPYTERHUB_PUBLIC_URL", values)
    if hub_host and not public.netloc:
        raise SettingError(
            "JUPYTERHUB_PUBLIC_URL", "beside JUPYTERHUB_HOST it must tell where browsers see the service"
        )
    # A port makes no host: cookies are sent to all of them.
    is_apart = bool(hub_host) and public.hostname != _split_url("JUPYTERHUB_HOST", values).hostname
    return ServiceSettings(
        name=name,
        api_url=values.get("JUPYTERHUB_API_URL") or "http://127.0.0.1:8081/hub/api",
        api_token=values["JUPYTERHUB_API_TOKEN"],
        client_id=values.get("JUPYTERHUB_CLIENT_ID") or f"service-{name}",
        host=f"{public.scheme}://{public.netloc}" if is_apart else "",
        hub_host=hub_host,
        roots=roots,
        login_seconds=_parse_number(values, "KDR_LOGIN_SECONDS", 60),
        max_registrations=_parse_number(values, "KDR_USER_REGISTRATIONS", 10_000),
        max_manifest_bytes=_parse_number(values, "KDR_USER_MANIFEST_BYTES", 1 << 30),
        max_hashing_bytes=_parse_number(values, "KDR_USER_HASHING_BYTES", 1 << 30),
        uploads=uploads,
        max_upload_bytes=_parse_number(values, "KDR_USER_UPLOAD_BYTES", 100 << 30),
    )


def _parse_roots(value: str) -> AllowedRoots:
    try:
        return AllowedRoots(value)
    except ValueError as error:
        raise SettingError("KDR_ROOTS", str(error)) from error


def _find_registry(value: str | None) -> Location:
    try:
        return find_registry(value)
    except InvalidOption as error:
        raise SettingError("KDR_REGISTRY", error.reason) from error


def _parse_number(values: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    value = values.get(name) or str(default)
    if not (_NUMBER.fullmatch(value) and least <= int(value) < 1 << 60):
        raise SettingError(name, f"{value!r} is no whole number of at least {least}")
    return int(value)


def _split_url(name: str, values: Mapping[str, str]) -> SplitResult:
    try:
        return urlsplit(values.get(name, ""))
    except ValueError as error:
        raise SettingError(name, f"it is no URL: {error}") from error


def _parse_base_url(name: str, value: str) -> str:
    try:
        return normalise_base_url(value)
    except InvalidOption as error:
        raise SettingError(name, f"{value!r}: {error.reason}") from error


def _parse_route(value: str) -> str:
    try:
        return check_route(value)
    except InvalidOption as error:
        raise SettingError("KDR_ROUTE", f"{value!r}: {error.reason}") from error


def _parse_nginx_prefix(value: str, proxies: str) -> str:
    if not value:
        return ""
    if not _PLAIN_PATH.fullmatch(value):
        raise SettingError("KDR_NGINX_ACCEL", f"{value!r} is no path of letters, digits, '_' and '-', /_kdr_files say")
    if not proxies.strip(" ,"):
        raise SettingError("KDR_NGINX_ACCEL", "KDR_TRUSTED_PROXIES must say where nginx is, 127.0.0.1 or unix say")
    return value.rstrip("/")


def _parse_proxies(value: str) -> TrustedProxies:
    try:
        return TrustedProxies(value)
    except ValueError as error:
        raise SettingError("KDR_TRUSTED_PROXIES", f"{error}; write addresses or networks, or unix") from error


def _parse_hosts(value: str) -> KnownHosts:
    try:
        return KnownHosts(name.strip() for name in value.split(",") if name.strip())
    except ValueError as error:
        raise SettingError("KDR_HOSTS", f"{error}; write viewer.example.org or .example.org, without a port") from error


def _parse_bool(name: str, value: str) -> bool:
    folded = value.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise SettingError(name, f"{value!r} is neither 1 nor 0")
