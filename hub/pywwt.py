"""pywwt with its files served from here; its users' programs stay as they are.

`enable` does it for one process. One line of IPython's configuration does it
for every kernel (``ipython_kernel_config.py``)::

    c.InteractiveShellApp.extensions.append("hub.pywwt")
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from hub.client import AnyPath, JupyterRelayHub, PublishedURL
from hub.errors import HubError, UnfitPywwt
from hub.registration import Visibility, check_visibility

if TYPE_CHECKING:
    from importlib.abc import Loader  # It takes longer to import than all else here.

_MODULE = "pywwt.jupyter_relay"
#: Where that module keeps the hub that its `get_relay_hub` returns, whoever has imported that function before.
_SINGLETON = "_global_relay_hub"


class PywwtRelayHub(JupyterRelayHub):
    """The hub that pywwt gets in place of its own.

    Its static files are those that pywwt bundles, WorldWide Telescope's
    research app among them.

    Parameters
    ----------
    relay : module
        ``pywwt.jupyter_relay``.
    visibility : {"private", "users", "public"}
        Of what is published without saying who may read it, as pywwt does.
    """

    def __init__(self, relay: ModuleType, visibility: Visibility) -> None:
        # pywwt's application acts with the login of whoever looks at it, which only the user's own server allows.
        super().__init__(service="")
        self.visibility = visibility
        self._static_directory: str = relay.STATIC_DIR
        self._static_key = "static" + ".".join(map(str, sys.modules["pywwt"].version_info))
        current = getattr(relay, _SINGLETON)
        #: pywwt's own hub, if it had made one.
        self.replaced: object | None = current.replaced if isinstance(current, PywwtRelayHub) else current

    def get_static_files_url(self) -> PublishedURL:
        """Publish the static files that pywwt bundles, under a key with its version, and return their partial URL."""
        return self.serve_tree(self._static_directory, key=self._static_key, visibility="public", trusted=True)

    def serve_file(
        self,
        path: AnyPath,
        extension: str = "",
        key: str | None = None,
        *,
        visibility: str | Sequence[str] | None = None,
        **options: Any,
    ) -> PublishedURL:
        """Publish one file, as `JupyterRelayHub.serve_file` does; without `visibility` with this hub's."""
        return super().serve_file(path, extension, key, visibility=self._or_own(visibility), **options)

    def serve_tree(
        self, path: AnyPath, key: str | None = None, *, visibility: str | Sequence[str] | None = None, **options: Any
    ) -> PublishedURL:
        """Publish a directory, as `JupyterRelayHub.serve_tree` does; without `visibility` with this hub's."""
        return super().serve_tree(path, key, visibility=self._or_own(visibility), **options)

    def _or_own(self, visibility: str | Sequence[str] | None) -> str | Sequence[str]:
        return self.visibility if visibility is None else visibility


def enable(*, visibility: str = "private") -> None:
    """Let the installed pywwt publish through this package, from now on and in this process.

    ``pywwt.jupyter_relay.get_relay_hub()`` returns a `PywwtRelayHub` then.
    pywwt is imported. The last call of this function, or of
    `enable_on_import`, decides on the visibility.

    Parameters
    ----------
    visibility : {"private", "users", "public"}
        Who may read what pywwt publishes from now on. Its own relay let
        everybody read.

    Raises
    ------
    UnfitPywwt
        It is not installed, or of a version that this package does not know.
    InvalidOption, RegistryError
    """
    known = check_visibility(visibility)
    _forget_watch()
    try:
        relay = import_module(_MODULE)
    except ModuleNotFoundError as error:
        if error.name == "pywwt":
            raise UnfitPywwt(None) from error
        if error.name == _MODULE:
            raise UnfitPywwt(getattr(sys.modules["pywwt"], "__version__", "")) from error
        raise
    _take_over(relay, known)
    sys.meta_path.insert(0, _Watch(known))  # For whoever reloads it.


def enable_on_import(*, visibility: str = "private") -> None:
    """Do as `enable` does, as soon as somebody imports pywwt's relay; what cannot be done is warned of.

    It costs nothing where nobody does, so that it can be done in every kernel.

    Parameters
    ----------
    visibility : {"private", "users", "public"}

    Raises
    ------
    InvalidOption
        There is no such visibility.
    """
    known = check_visibility(visibility)
    _forget_watch()
    sys.meta_path.insert(0, _Watch(known))
    if _MODULE in sys.modules:
        _take_over_or_warn(sys.modules[_MODULE], known)


def disable() -> None:
    """Give pywwt its own hub back; what has been published stays so."""
    _forget_watch()
    relay = sys.modules.get(_MODULE)
    current = getattr(relay, _SINGLETON, None)
    if isinstance(current, PywwtRelayHub):
        setattr(relay, _SINGLETON, current.replaced)


def load_ipython_extension(ipython: object) -> None:  # noqa: ARG001  # IPython calls it so
    """Do what ``%load_ext hub.pywwt`` asks for, and leave a visibility that was chosen before as it is."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        enable_on_import()


def unload_ipython_extension(ipython: object) -> None:  # noqa: ARG001
    """Do what ``%unload_ext hub.pywwt`` asks for."""
    disable()


def _take_over(relay: ModuleType, visibility: Visibility) -> None:
    pywwt = sys.modules["pywwt"]
    fits = all(hasattr(relay, name) for name in (_SINGLETON, "STATIC_DIR", "get_relay_hub"))
    if not (fits and hasattr(pywwt, "version_info")):
        raise UnfitPywwt(getattr(pywwt, "__version__", ""))
    setattr(relay, _SINGLETON, PywwtRelayHub(relay, visibility))


def _take_over_or_warn(relay: ModuleType, visibility: Visibility) -> None:
    try:
        _take_over(relay, visibility)
    except HubError as error:
        # The program may do without a relay, and pywwt has one of its own.
        warnings.warn(f"pywwt does not publish through kdr-wsgi: {error}", stacklevel=3)


class _Watch:
    """A finder of modules (`sys.meta_path`) that sees to it that pywwt's is taken over once it has been run."""

    def __init__(self, visibility: Visibility) -> None:
        self.visibility = visibility

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _WatchedLoader(spec.loader, self))
        return spec


class _WatchedLoader:
    """Loads pywwt's module as its own loader does, and takes it over."""

    def __init__(self, loader: Loader, watch: _Watch) -> None:
        self._loader = loader
        self._watch = watch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if self._watch in sys.meta_path:  # Nobody has disabled it meanwhile.
            _take_over_or_warn(module, self._watch.visibility)


def _forget_watch() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watch)]
