"""WTML with absolute URLs, which WorldWide Telescope wants, out of the relative one that tiling programs write.

The format is that of
https://docs.worldwidetelescope.org/data-guide/1/data-file-formats/collections/,
read and written by wwt_data_formats. What stands in it is data of anybody's,
so that what it may cost is bounded; and what costs most, to read it and write
it again, is done once for each source, whatever URLs it is read at.
"""

from __future__ import annotations

import re
import secrets
from threading import Condition
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.sax import ContentHandler, SAXException
from xml.sax.saxutils import escape
from xml.sax.xmlreader import AttributesImpl

from blake3 import blake3
from cachetools import LRUCache, cached
from defusedxml import DefusedXmlException
from defusedxml.expatreader import create_parser
from traitlets import TraitError
from wwt_data_formats.folder import Folder, make_absolutizing_url_mutator

from kdr_wsgi.errors import UnusableWTML

#: Some 3,000 places, with all that they hold; they take a few seconds.
MAX_ELEMENTS = 20_000
#: Each element within another takes several frames of Python's stack.
MAX_DEPTH = 64
#: Of what is made; relative URLs grow when they become absolute.
MAX_CHARACTERS = 16 * 1024 * 1024

#: What sources may take of a worker's memory, once they have been read.
CACHE_BYTES = 32 * 1024 * 1024


#: As Python's XML does: as they are, a reader would take each for a blank.
_IN_ATTRIBUTES = {'"': "&quot;", "\t": "&#09;", "\n": "&#10;", "\r": "&#13;"}


class _Template(NamedTuple):
    """A WTML that was read and is written, but for its relative URLs.

    Attributes
    ----------
    parts : list of str
        The text before, between and behind them.
    urls : list of str
        One between each part and the next, as the source has it.
    """

    parts: list[str]
    urls: list[str]

    def fill(self, url: str) -> str:
        join = make_absolutizing_url_mutator(url)
        absolute = [escape(join(relative), _IN_ATTRIBUTES) for relative in self.urls]
        if sum(map(len, absolute)) + sum(map(len, self.parts)) > MAX_CHARACTERS:
            raise UnusableWTML(f"what is made of it has more than {MAX_CHARACTERS:,} characters")
        return "".join(text for pair in zip(self.parts, [*absolute, ""], strict=True) for text in pair)


def make_absolute(source: bytes, url: str) -> bytes:
    """Return the WTML `source` with each URL joined to `url`, as RFC 3986, 5.2 says.

    Parameters
    ----------
    source : bytes
        XML, in the encoding that it declares.
    url : str
        Where the result is read, absolute.

    Raises
    ------
    UnusableWTML
        It is no WTML, or beyond one of the limits.
    """
    template = _read_once(source)
    if isinstance(template, str):
        raise UnusableWTML(template)
    return template.fill(url).encode()


def _size_of(template: _Template | str) -> int:
    if isinstance(template, str):
        return 1000
    # What Python's objects take, beside the characters.
    return 1000 + sum(len(text) + 100 for texts in template for text in texts)


@cached(LRUCache(CACHE_BYTES, _size_of), key=lambda source: blake3(source).digest(), condition=Condition())
def _read_once(source: bytes) -> _Template | str:
    """Return the template, or the reason why there is none, found out once; who asks meanwhile waits."""
    try:
        return _read(source)
    except UnusableWTML as error:
        return error.reason


def _read(source: bytes) -> _Template:
    mark = f"url-{secrets.token_hex(16)}-"
    urls: list[str] = []
    # What begins with the scheme of the URL that it is joined to can be relative all the same (RFC 3986, 5.2.2).
    joins = [make_absolutizing_url_mutator(f"{scheme}://host.example/") for scheme in ("http", "https")]

    def put_mark(url: str) -> str:
        if all(join(url) == url for join in joins):
            return url
        urls.append(url)
        return f"{mark}{len(urls) - 1}."

    root = _parse(source)
    try:
        folder = Folder.from_xml(root)
        folder.mutate_urls(put_mark)
        text: str = folder.to_xml_string()
    except (TraitError, ValueError, TypeError, OverflowError) as error:
        raise UnusableWTML("it is no WTML folder, or an attribute has a value that WTML does not know") from error
    if len(text) > MAX_CHARACTERS:
        raise UnusableWTML(f"what is made of it has more than {MAX_CHARACTERS:,} characters")
    pieces = re.split(rf"{mark}(\d+)\.", text)
    return _Template(pieces[::2], [urls[int(number)] for number in pieces[1::2]])


def _parse(source: bytes) -> Element:
    # Without namespaces, which WTML has not: each name would hold that of its space, however long.
    parser = create_parser(forbid_dtd=True)
    builder = _BoundedBuilder()
    parser.setContentHandler(builder)
    try:
        parser.feed(source)
        parser.close()
    except DefusedXmlException as error:
        raise UnusableWTML("it has a document type declaration or entities, which are refused") from error
    except (SAXException, LookupError, ValueError) as error:  # The latter two: an encoding that nobody knows.
        raise UnusableWTML(f"it is no well-formed XML ({error})") from error
    return builder.tree.close()


class _BoundedBuilder(ContentHandler):
    """Builds a tree of elements, and stops at the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = TreeBuilder()
        self._elements = 0
        self._depth = 0

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802  # SAX names it
        self._elements += 1
        self._depth += 1
        if self._elements > MAX_ELEMENTS:
            raise UnusableWTML(f"it has more than {MAX_ELEMENTS:,} elements")
        if self._depth > MAX_DEPTH:
            raise UnusableWTML(f"its elements are nested more than {MAX_DEPTH} deep")
        # WTML passes names on that begin with an X; the declaration of a namespace does not.
        self.tree.start(name, {key: value for key, value in attrs.items() if ":" not in key})

    def endElement(self, name: str) -> None:  # noqa: N802
        self._depth -= 1
        self.tree.end(name)

    def characters(self, content: str) -> None:
        self.tree.data(content)
