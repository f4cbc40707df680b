"""What can go wrong on the kernel's side; each error keeps its facts and makes its sentence from them."""

from __future__ import annotations


class HubError(Exception):
    """Base class of every error that `hub` raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # An error that comes from another process (a Dask worker, say) is made without its constructor.
        return _restore, (type(self), self.args, self.__dict__)


class MissingPath(HubError, FileNotFoundError):
    """Nothing exists at the path that was to be served."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"cannot serve {path!r}: no such file or directory")


class UnusablePath(HubError, OSError):
    """The path that was to be served cannot be followed to its end."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot serve {path!r}: {reason}")


class UnusableURL(HubError, ValueError):
    """The address of an object, or of a prefix, in an object store cannot be used."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"cannot serve {url!r}: {reason}")


class NotAFile(HubError, ValueError):
    """`serve_file` was given something else than a regular file."""

    def __init__(self, path: str, *, is_directory: bool) -> None:
        self.path = path
        remedy = "it is a directory; call serve_tree" if is_directory else "it is not a regular file"
        super().__init__(f"cannot serve {path!r} as a file: {remedy}")


class NotATree(HubError, NotADirectoryError):
    """`serve_tree` was given something else than a directory or a zip archive."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"cannot serve {path!r} as a tree: it is no zip archive, or not all of one, and not a directory; "
            "call serve_file"
        )


class NoArchive(HubError, ValueError):
    """A file is no zip archive, or the end of one is missing."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path!r} is no zip archive, or was cut off")


class ArchiveError(HubError, ValueError):
    """The members of a zip archive cannot be served."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot serve the members of {path!r}: {reason}")


class InvalidKey(HubError, ValueError):
    """A key cannot be one segment of a URL, or belongs to the server."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"the key {key!r} cannot be used: {reason}")


class InvalidOption(HubError, ValueError):
    """An option of a registration has a value that cannot be honoured."""

    def __init__(self, option: str, value: object, reason: str) -> None:
        self.option = option
        self.value = value
        self.reason = reason
        super().__init__(f"{option}={value!r} cannot be used: {reason}")


class RegistryError(HubError):
    """The registry cannot be used."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"the registry {path!r} cannot be used: {reason}")


class RegistryDamaged(RegistryError):
    """The registry's file is damaged; whoever writes next sets it aside and begins a new one."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            path, f"it is damaged ({reason}); whoever publishes next sets it aside, and begins a new one: try again"
        )


class RegistryTooNew(RegistryError):
    """The registry was written by a later version of this package."""

    def __init__(self, path: str, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            path,
            f"its schema is version {found} and this installation knows up to {known}; "
            "upgrade kdr-wsgi here, or name another registry in KDR_REGISTRY",
        )


class ServiceError(HubError):
    """The hub's shared relay server has not done what it was asked."""


class ServiceUnreachable(ServiceError):
    """The hub's shared relay server does not answer, or not as one."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"the shared relay server at {url} (KDR_SERVICE_URL) cannot be used: {reason}. "
            "To publish through your own Jupyter server: JupyterRelayHub(service='')"
        )


class ServiceRefused(ServiceError):
    """The hub's shared relay server has refused what it was asked; its sentence says why.

    Attributes
    ----------
    status : int
        The HTTP status of its answer.
    """

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


class NotSeenThere(ServiceRefused):
    """The hub's shared relay server sees nothing at a path, or something else than the kernel does.

    Its sentence says what to do: publish with ``upload=True``, or from a folder that both see.
    """


class LimitReached(ServiceError):
    """A user of the hub's shared relay server has as much as is allowed."""


class UnhashableEntry(HubError, OSError):
    """A file or folder cannot be read to its end, so that what it would be named by is not known."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"no content key can be made, since {path!r} cannot be hashed: {reason}")


class EndlessTree(HubError, ValueError):
    """Links to folders lead to more files than can be walked."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit
        super().__init__(
            f"no content key can be made of {path!r}: links to folders in it lead to more than {limit:,} files; "
            "remove links that lead to the same folders again and again"
        )


class ManifestError(HubError):
    """A manifest, what a content key's files hash to, cannot be read or written."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"the manifest {path!r} cannot be used: {reason}")


class SnapshotError(HubError):
    """A folder of snapshots cannot be read or written."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"the folder of snapshots {path!r} cannot be used: {reason}")


class UnfitPywwt(HubError, ImportError):
    """The pywwt of this environment cannot be made to publish through this package.

    Attributes
    ----------
    version : str or None
        None: it is not installed.
    """

    def __init__(self, version: str | None) -> None:
        self.version = version
        if version is None:
            sentence = "pywwt is not installed here; run: pip install 'pywwt>=0.26'"
        else:
            sentence = (
                f"pywwt {version} does not keep its relay's hub where pywwt 0.26 does, and goes on using its own; "
                "run: pip install --upgrade pywwt kdr-wsgi"
            )
        super().__init__(sentence)


class RegistrySetAside(UserWarning):
    """A damaged registry was set aside, and a new one begun."""

    def __init__(self, registry: str, aside: str) -> None:
        self.registry = registry
        self.aside = aside
        super().__init__(
            f"the registry {registry!r} is damaged; it was set aside as {aside!r}, and a new one has been begun. "
            "What kernels of this user that still run have published is published again when they next call the hub; "
            "publish the rest again"
        )


class UnservedWarning(UserWarning):
    """Something was registered where no server looks."""

    def __init__(self, registry: str) -> None:
        self.registry = registry
        super().__init__(
            f"registered, but no server reads {registry!r}: in the environment of your Jupyter server run "
            "pip install 'kdr-wsgi[jupyter]' and restart it; or run kdr serve --as-owner in a terminal; "
            "kdr doctor tells more"
        )


def _restore(kind: type[HubError], arguments: tuple[object, ...], facts: dict[str, object]) -> HubError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(facts)
    return error
