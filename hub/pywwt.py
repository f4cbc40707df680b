"""pywwt with its files served from here; its users' programs stay as they are.

`enable` does it for one process. One line of IPython's configuration does it
for every kernel (``ipython_kernel_config.py``)::

    c.InteractiveShellApp.extensions = ["hub.pywwt"]
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from hub.client import AnyPath, JupyterRelayHub, PublishedURL
from hub.errors import UnfitPywwt
from hub.registration import Visibility, check_visibility

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
        super().__init__()
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
        visibility: str | None = None,
        **options: Any,
    ) -> PublishedURL:
        """Publish one file, as `JupyterRelayHub.serve_file` does; without `visibility` with this hub's."""
        return super().serve_file(path, extension, key, visibility=self._or_own(visibility), **options)

    def serve_tree(
        self, path: AnyPath, key: str | None = None, *, visibility: str | None = None, **options: Any
    ) -> PublishedURL:
        """Publish a directory, as `JupyterRelayHub.serve_tree` does; without `visibility` with this hub's."""
        return super().serve_tree(path, key, visibility=self._or_own(visibility), **options)

    def _or_own(self, visibility: str | None) -> str:
        return self.visibility if visibility is None else visibility


def enable(*, visibility: str = "private") -> None:
    """Let the installed pywwt publish through this package, from now on and in this process.

    ``pywwt.jupyter_relay.get_relay_hub()`` returns a `PywwtRelayHub` then.
    pywwt is imported.

    Parameters
    ----------
    visibility : {"private", "users", "public"}
        Who may read what pywwt publishes. Its own relay let everybody read.

    Raises
    ------
    UnfitPywwt
        It is not installed, or of a version that this package does not know.
    InvalidOption
    """
    known = check_visibility(visibility)
    try:
        relay = import_module(_MODULE)
    except ModuleNotFoundError as error:
        if error.name == "pywwt":
            raise UnfitPywwt(None) from error
        if error.name == _MODULE:
            raise UnfitPywwt(getattr(sys.modules["pywwt"], "__version__", "")) from error
        raise
    _take_over(relay, known)


def enable_on_import(*, visibility: str = "private") -> None:
    """Do as `enable` does, as soon as somebody imports pywwt; a pywwt that does not fit is warned of.

    It costs nothing where nobody does, so that it can be done in every kernel.
    """
    known = check_visibility(visibility)
    if _MODULE in sys.modules:
        _take_over(sys.modules[_MODULE], known)
        return
    _forget_watch()
    sys.meta_path.insert(0, _Watch(known))


def disable() -> None:
    """Give pywwt its own hub back; what has been published stays so."""
    _forget_watch()
    relay = sys.modules.get(_MODULE)
    current = getattr(relay, _SINGLETON, None)
    if isinstance(current, PywwtRelayHub):
        setattr(relay, _SINGLETON, current.replaced)


def load_ipython_extension(ipython: object) -> None:  # noqa: ARG001  # IPython calls it so
    """Do what ``%load_ext hub.pywwt`` asks for."""
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


class _Watch:
    """A finder of modules (`sys.meta_path`) that takes pywwt's module over once it has been run."""

    def __init__(self, visibility: Visibility) -> None:
        self._visibility = visibility

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_take_over(module: ModuleType) -> None:
                run(module)
                try:
                    _take_over(module, self._visibility)
                except UnfitPywwt as error:
                    # The program may do without a relay, as it did before.
                    warnings.warn(str(error), stacklevel=2)

            spec.loader.exec_module = run_and_take_over  # type: ignore[method-assign]
        return spec


def _forget_watch() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watch)]
