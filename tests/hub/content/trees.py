"""What docs/content.md says that a tree hashes to, in other words than those of the package."""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3


def hash_as_documented(root: Path) -> str:
    """Return the hash of a tree without links."""
    lines = []
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                data = file.read()
            entry = os.path.relpath(path, os.fsencode(root))
            lines.append((entry, b"%d" % len(data), blake3(data).hexdigest().encode()))
    tree = blake3(derive_key_context="kernel data relay 2026-11-25 tree")
    for line in sorted(lines):
        tree.update(b"\0".join(line) + b"\n")
    return tree.hexdigest()
