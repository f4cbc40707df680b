"""The kernel's side of the Kernel Data Relay: publish files, get URLs that a browser can read."""

from hub import pywwt as pywwt
from hub.client import JupyterRelayHub, PublishedURL, get_relay_hub
from hub.errors import (
    HubError,
    InvalidKey,
    InvalidOption,
    MissingPath,
    NotAFile,
    NotATree,
    RegistryError,
    RegistryTooNew,
    UnfitPywwt,
    UnservedWarning,
    UnusablePath,
)
from hub.version import VERSION as __version__

__all__ = [
    "HubError",
    "InvalidKey",
    "InvalidOption",
    "JupyterRelayHub",
    "MissingPath",
    "NotAFile",
    "NotATree",
    "PublishedURL",
    "RegistryError",
    "RegistryTooNew",
    "UnfitPywwt",
    "UnservedWarning",
    "UnusablePath",
    "__version__",
    "get_relay_hub",
]
