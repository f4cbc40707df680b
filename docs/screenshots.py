"""Makes the pictures of the documentation anew: `tox -e screenshots`.

It runs the tests that look at JupyterLab, which keep what they see, and writes the pictures into docs/.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent

#: Each picture, the test that sees it, and what that keeps it as.
PICTURES = (
    (
        "ipyleaflet.jpg",
        "test_examples.py::test_an_example_shows_what_it_promises[cog_ipyleaflet]",
        "cog_ipyleaflet.png",
    ),
    ("tutorial.jpg", "test_howtos.py::test_the_tutorial_ends_with_a_picture_and_a_viewer", "tutorial.png"),
)


def main() -> int:
    """Make the pictures; return what pytest returns."""
    with tempfile.TemporaryDirectory(prefix="kdr-pictures-") as folder:
        tests = [f"tests/e2e/{test}" for _, test, _ in PICTURES]
        environment = {
            **os.environ,
            "KDR_TEST_SCREENSHOTS": folder,
            "KDR_TEST_SCREENSHOT": str(DOCS / "jupyterlab.jpg"),
        }
        command = [sys.executable, "-m", "pytest", "-q", "tests/e2e/test_notebook.py", *tests]
        done = subprocess.run(command, cwd=DOCS.parent, env=environment, check=False)
        for name, _, kept in PICTURES:
            path = Path(folder) / kept
            if path.exists():
                Image.open(path).convert("RGB").save(DOCS / name, quality=82, optimize=True)
                print(f"docs/{name}: {(DOCS / name).stat().st_size:,} bytes")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
