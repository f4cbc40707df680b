from __future__ import annotations

import filecmp
import shutil
import subprocess
from pathlib import Path

from tests.conftest import need

SOURCES = Path(__file__).parents[3] / "frontend"
BUILT = Path(__file__).parents[3] / "hub" / "static" / "preview"


def test_the_pages_are_what_their_sources_make(tmp_path: Path) -> None:
    has_tools = shutil.which("node") is not None and (SOURCES / "node_modules" / "esbuild").exists()
    need("esbuild", is_there=has_tools, remedy="npm ci --prefix frontend")
    subprocess.run(["node", SOURCES / "build.mjs", tmp_path / "preview"], check=True)
    compared = filecmp.dircmp(tmp_path / "preview", BUILT)
    assert (compared.left_only, compared.right_only, compared.diff_files) == ([], [], []), (
        "npm run build has more to say"
    )
    parts = filecmp.dircmp(tmp_path / "preview" / "parts", BUILT / "parts")
    assert (parts.left_only, parts.right_only, parts.diff_files) == ([], [], []), "npm run build has more to say"
