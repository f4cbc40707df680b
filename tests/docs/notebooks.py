"""Pages of the documentation as notebooks, so that they are run where their readers run them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import nbformat

from tests.docs.blocks import pages


def notebook_of(page: Path) -> Any:
    """Return the blocks of a page as the cells of a notebook, but for those that it says not to run."""
    cells = []
    is_skipped = False
    for example in pages.parse(page).examples():
        language = example.region.lexemes.get("language")
        if language is None:  # A comment, which speaks of the next block.
            is_skipped = True
            continue
        source = dedent(str(example.parsed)).strip()
        if language == "sh":
            source = f"%%bash\n{source}"
        if language in ("python", "sh") and not is_skipped:
            cells.append(nbformat.v4.new_code_cell(source))
        is_skipped = False
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
