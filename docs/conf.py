"""How Sphinx makes the documentation's site: `tox -e docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).with_name("_ext")))

from hub.version import VERSION

project = "Kernel Data Relay"
author = "The kdr-wsgi developers"
project_copyright = f"2026, {author}"
version = release = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "kdr_reference",
]
exclude_patterns = ["_ext"]

# A forge makes the same anchors of headings.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_ivar = True
# The words of a docstring for a type are words, and no names to look up.
napoleon_use_param = False
napoleon_preprocess_types = False

nitpicky = True
nitpick_ignore_regex = [
    # Python's and Flask's own documentation is elsewhere, and not every machine that builds this has a network.
    ("py:class", r"(os|pathlib|collections|concurrent|types|typing|flask)\..*"),
    ("py:class", r"(AnyPath|Executor|Flask|Mapping|Path|PathLike|Sequence)"),
    (
        "py:class",
        r"hub\.(client\.AnyPath|registrar\.Registrar|locations\.DatabaseLocation)|Publications|Registration|Kind|hub\.registration\..*",
    ),
    # "Raises" names several in a line, or one that is no part of what is described here.
    ("py:exc", r".*, .*|SettingError"),
]

# Two hyphens begin an option.
smartquotes = False

html_theme = "furo"
html_title = f"Kernel Data Relay {VERSION}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
# The pages' sources are what a forge shows.
html_copy_source = False

# Addresses of the documentation's own examples, and of pages that ask for a login or refuse programs.
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost|hub\.example|[^/]*\.example)([:/].*)?"]
linkcheck_anchors = False
linkcheck_timeout = 20


#: Stands in index.md for the pages that it does not name.
OTHERS = "OTHER-PAGES"


def list_other_pages(app: Sphinx, name: str, text: list[str]) -> None:
    """Put the pages that no list of index.md names into the one that asks for them."""
    if name == "index":
        named = set(text[0].split())
        others = sorted(page for page in app.project.docnames if page not in named and "/" not in page)
        text[0] = text[0].replace(OTHERS, "\n".join(page for page in others if page != "index"))


def setup(app: Sphinx) -> None:
    """Let index.md have pages that nobody has written into it."""
    app.connect("source-read", list_other_pages)
