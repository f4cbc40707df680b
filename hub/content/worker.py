"""The whole life of a process that hashes."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import suppress
from functools import partial
from typing import IO

from hub.content.hashing import hash_batch

#: What such a process runs. It needs little of this package, and its start counts: the rest is not imported.
PROGRAM = """
import pickle, sys, types
try:
    sys.path[:], folder = pickle.load(sys.stdin.buffer)
except (EOFError, pickle.UnpicklingError):  # Who has started it was killed.
    sys.exit()
sys.modules["hub"] = hub = types.ModuleType("hub")
hub.__path__ = [folder]
from hub.content.worker import main
main()
"""


def main() -> None:
    """Hash what comes in, until nothing more comes."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What anything prints is for people.
    os.dup2(2, 1)
    # Who has started it may be killed, also within a message.
    with suppress(EOFError, pickle.UnpicklingError, BrokenPipeError), answers:
        while True:
            root, entries = pickle.load(requests)  # noqa: S301  # from the process that started this one
            send(answers, hash_batch(root, entries, may_map=True, report=partial(send, answers)))


def send(stream: IO[bytes], message: object) -> None:
    """Write a message, at once."""
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()
