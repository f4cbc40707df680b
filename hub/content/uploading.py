"""Send the files of a content key to the store of the hub's shared relay server, where it lacks them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from hub.content.manifests import ManifestStore
from hub.content.opening import open_beneath
from hub.content.progress import Progress
from hub.content.signatures import size_of
from hub.errors import ServiceRefused, UnhashableEntry
from hub.registration import Registration
from hub.service import NOT_UPLOADED, Interruption

if TYPE_CHECKING:
    from hub.service import ServiceRegistrar

_Published = TypeVar("_Published")

#: Files that are sent at a time, which is fewer than one worker of the service takes.
_THREADS = 3

#: Hashes that are asked of at a time.
_BATCH = 1000

#: What is read and sent at a time.
_BUFFER_BYTES = 1 << 20


class FileToSend(NamedTuple):
    """A file that is to be uploaded."""

    digest: bytes
    size_bytes: int
    folder: bytes
    entry: bytes


class Interrupted(Exception):
    """Another file could not be sent, or somebody has pressed Ctrl-C."""


def upload(registration: Registration, store: ManifestStore, service: ServiceRegistrar, *, anew: bool = False) -> None:
    """Send what the service lacks of a file or a tree; what was sent stays there when it is interrupted.

    Parameters
    ----------
    registration : Registration
        With a content key.
    store : ManifestStore
        Which has the manifest of a tree.
    service : ServiceRegistrar
    anew : bool
        The service is to list what it has: what it knew has turned out wrong.

    Raises
    ------
    UnhashableEntry
        A file has changed since it was hashed.
    ServiceRefused, ServiceUnreachable, LimitReached
    """
    with Progress("uploading") as progress:
        lacking = list(_find_lacking(_files(registration, store), service, progress, anew=anew))
        progress.expect_no_more()
        is_over = Interruption()
        with ThreadPoolExecutor(_THREADS) as threads:
            try:
                sent = [threads.submit(_send, file, service, progress, is_over) for file in lacking]
                done, _ = wait(sent, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            finally:  # Ctrl-C too waits for no file, nor for a service that takes nothing.
                is_over.set()
                threads.shutdown(wait=False, cancel_futures=True)


def publish_upload(
    registration: Registration, store: ManifestStore, service: ServiceRegistrar, publish: Callable[[], _Published]
) -> _Published:
    """Upload, and return what `publish` does, which registers; once more where the service had less than it knew of.

    Raises
    ------
    UnhashableEntry, ServiceRefused, ServiceUnreachable, LimitReached
    """
    upload(registration, store, service)
    try:
        return publish()
    except ServiceRefused as error:
        if error.status != NOT_UPLOADED:
            raise
    upload(registration, store, service, anew=True)
    return publish()


def _files(registration: Registration, store: ManifestStore) -> Iterator[FileToSend]:
    if registration.kind == "file":
        folder, name = os.path.split(registration.root)
        yield FileToSend(bytes.fromhex(registration.content), size_of(registration.signature), folder, name)
        return
    manifest = store.open(registration.content, registration.root).manifest
    seen: set[bytes] = set()
    for position in range(len(manifest)):
        digest = manifest.hash(position)
        if digest not in seen:
            seen.add(digest)
            yield FileToSend(digest, manifest.size_bytes(position), registration.root, manifest[position])


def _find_lacking(
    files: Iterator[FileToSend], service: ServiceRegistrar, progress: Progress, *, anew: bool
) -> Iterator[FileToSend]:
    while batch := {file.digest: file for file in islice(files, _BATCH)}:
        progress.pass_files(len(batch))
        for digest in service.find_missing([*batch], anew=anew):
            if digest in batch:
                progress.expect(batch[digest].size_bytes)
                yield batch[digest]
        # Once is enough, unless another worker answers; the registration finds that out.
        anew = False


def _send(file: FileToSend, service: ServiceRegistrar, progress: Progress, is_over: Interruption) -> None:
    if is_over.is_set():
        raise Interrupted
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        progress.add(-sent)  # It is sent anew.
        sent = 0
        try:
            descriptor = open_beneath(file.folder, file.entry)
        except OSError as error:
            raise _changed(file) from error
        try:
            while chunk := os.pread(descriptor, min(_BUFFER_BYTES, file.size_bytes - sent), sent):
                if is_over.is_set():
                    raise Interrupted
                yield chunk
                sent += len(chunk)
                progress.add(len(chunk))
            if sent != file.size_bytes:
                raise _changed(file)
        finally:
            os.close(descriptor)

    service.send_file(file.digest, file.size_bytes, body, is_over)


def _changed(file: FileToSend) -> UnhashableEntry:
    return UnhashableEntry(
        os.fsdecode(os.path.join(file.folder, file.entry)), "it was changed while it was sent; publish it again"
    )
