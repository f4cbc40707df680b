"""The kernel's side of the Kernel Data Relay: publish files, get URLs that a browser can read."""

from hub import platforms as platforms
from hub import pywwt as pywwt
from hub.client import JupyterRelayHub, PublishedURL, get_relay_hub, list_publications
from hub.errors import (
    ArchiveError,
    EndlessTree,
    HubError,
    InvalidKey,
    InvalidOption,
    LimitReached,
    ManifestError,
    MissingPath,
    NotAFile,
    NotATree,
    NotSeenThere,
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
    UnusableURL,
)
from hub.version import VERSION as __version__

__all__ = [
    "ArchiveError",
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
    "NotSeenThere",
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
    "UnusableURL",
    "__version__",
    "get_relay_hub",
]

# Not among the names above: `from hub import *` must leave Python's own `list` alone.
list = list_publications  # noqa: A001
