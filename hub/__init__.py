"""The kernel's side of the Kernel Data Relay: publish files, get URLs that a browser can read."""

from hub import platforms as platforms
from hub import pywwt as pywwt
from hub.client import JupyterRelayHub, PublishedURL, get_relay_hub

# Not among the names for `from hub import *`, which must leave Python's own `list` alone.
from hub.client import list_publications as list  # noqa: A004, F401
from hub.errors import (
    EndlessTree,
    HubError,
    InvalidKey,
    InvalidOption,
    LimitReached,
    ManifestError,
    MissingPath,
    NotAFile,
    NotATree,
    RegistryDamaged,
    RegistryError,
    RegistrySetAside,
    RegistryTooNew,
    ServiceError,
    ServiceRefused,
    ServiceUnreachable,
    SnapshotError,
    UnfitPywwt,
    UnhashableEntry,
    UnservedWarning,
    UnusablePath,
)
from hub.version import VERSION as __version__

__all__ = [
    "EndlessTree",
    "HubError",
    "InvalidKey",
    "InvalidOption",
    "JupyterRelayHub",
    "LimitReached",
    "ManifestError",
    "MissingPath",
    "NotAFile",
    "NotATree",
    "PublishedURL",
    "RegistryDamaged",
    "RegistryError",
    "RegistrySetAside",
    "RegistryTooNew",
    "ServiceError",
    "ServiceRefused",
    "ServiceUnreachable",
    "SnapshotError",
    "UnfitPywwt",
    "UnhashableEntry",
    "UnservedWarning",
    "UnusablePath",
    "__version__",
    "get_relay_hub",
]
