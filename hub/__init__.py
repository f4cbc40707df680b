"""The kernel's side of the Kernel Data Relay: publish files, get URLs that a browser can read."""

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
    "UnservedWarning",
    "UnusablePath",
    "__version__",
    "get_relay_hub",
]
