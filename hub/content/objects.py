"""Content keys of what is in object stores: a process that may read them makes them, and reads none of the objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from tempfile import TemporaryFile

from hub.content.progress import Progress
from hub.errors import UnusableURL
from hub.keys import content_key
from hub.locations import Location, setting_of
from hub.registration import Registration

#: This process has no credentials; they stay in the file that KDR_STORES names.
_PROGRAM = "kdr_wsgi.objects.hashing"


def hash_objects(registration: Registration, registry: Location) -> Registration:
    """Return a registration with the content key of what is at its root now.

    Of a tree there is a manifest beside the registry then.

    Parameters
    ----------
    registration : Registration
        Of an object root.
    registry : path or DatabaseLocation

    Raises
    ------
    UnusableURL
        Nothing is there, the store does not tell, or ``KDR_STORES`` does not allow it.
    """
    url = registration.root.decode()
    command = [sys.executable, "-m", _PROGRAM, registration.kind, url]
    told: dict[str, object] = {}
    with (
        Progress("listing") as progress,
        TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            env={**os.environ, "KDR_REGISTRY": setting_of(registry)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                told = json.loads(line)
                progress.pass_files(int(str(told.get("files", 0))))
        except ValueError as error:  # Something else speaks there: what runs at each start of Python, say.
            process.kill()
            raise UnusableURL(url, f"{_PROGRAM} says what is not its own: {line[:200]!r}") from error
        except BaseException:  # Ctrl-C too leaves no process.
            process.kill()
            raise
        if process.wait() == 0:
            content = str(told["content"])
            signature = bytes.fromhex(str(told["signature"]))
            key = content_key(content, registration.variant)
            return replace(registration, key=key, content=content, signature=signature)
        complaints.seek(0)
        last = complaints.read().decode("utf-8", "replace").rstrip().rpartition("\n")[2]
    raise UnusableURL(url, str(told.get("error") or last or f"{_PROGRAM} ended with {process.returncode}"))
