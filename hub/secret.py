"""The user's secret, which makes path keys impossible to compute for anybody else."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from hub.drafts import Draft
from hub.errors import RegistryError
from hub.filesystems import make_private_directories, with_remedy
from hub.locations import Location

SECRET_BYTES = 32

#: What follows the secret's name in that of a draft; those of older versions end with the digits.
_DRAFT = re.compile(r"\.[0-9a-f]{16}(\.tmp)?")

#: To make a secret takes no time.
_ABANDONED_SECONDS = 60.0


def read_secret(registry: Location) -> bytes:
    """Return the secret that lies beside the registry, or is in its database, making it at the first call.

    Raises
    ------
    RegistryError
        The secret cannot be read or made, or is not `SECRET_BYTES` long.
    """
    if not isinstance(registry, Path):
        from hub.postgres.secret import read_shared_secret  # Here, since it takes an extra.

        return read_shared_secret(registry)
    return _read_secret_beside(registry)


def _read_secret_beside(registry_path: Path) -> bytes:
    path = secret_path(registry_path)
    try:
        try:
            secret, status = _read_private(path)
        except FileNotFoundError:
            make_private_directories(path)
            _make_secret(path)
            secret, status = _read_private(path)
    except OSError as error:
        reason = with_remedy(f"its secret {path.name!r}: {error.strerror}", path)
        raise RegistryError(str(registry_path), reason) from error
    if os.geteuid() not in (0, status.st_uid) or status.st_mode & 0o077:
        raise RegistryError(
            str(registry_path),
            f"its secret {path.name!r} is known to others; remove it (URLs of paths will change)",
        )
    if len(secret) != SECRET_BYTES:
        raise RegistryError(
            str(registry_path),
            f"its secret {path.name!r} is damaged; remove it (URLs of paths will change)",
        )
    return secret


def secret_path(registry_path: Path) -> Path:
    """Return where the secret of a registry lies."""
    return registry_path.with_name(registry_path.name + ".secret")


def _read_private(path: Path) -> tuple[bytes, os.stat_result]:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read(), os.fstat(file.fileno())


def _make_secret(path: Path) -> None:
    """Let the secret appear whole or not at all; where two processes try, the first one's stays."""
    _remove_abandoned(path)
    with Draft(path.parent, f"{path.name}.") as draft:
        draft.file.write(os.urandom(SECRET_BYTES))
        draft.file.flush()
        os.fsync(draft.file.fileno())
        with suppress(FileExistsError):
            draft.link(path)


def _remove_abandoned(path: Path) -> None:
    """Remove the drafts of processes that were killed, on a file system on which drafts have names."""
    for draft in path.parent.iterdir():
        if draft.name.startswith(path.name) and _DRAFT.fullmatch(draft.name, len(path.name)):
            with suppress(FileNotFoundError):
                if abs(time.time() - draft.stat().st_mtime) > _ABANDONED_SECONDS:
                    draft.unlink()
