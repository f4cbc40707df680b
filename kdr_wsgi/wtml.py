"""WTML with absolute URLs, which WorldWide Telescope wants, out of the relative one that tiling programs write.

The format is that of
https://docs.worldwidetelescope.org/data-guide/1/data-file-formats/collections/,
read and written by wwt_data_formats. What stands in it is data of anybody's,
so that what it may cost is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from blake3 import blake3
from cachetools import LRUCache, cached
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from traitlets import TraitError
from wwt_data_formats.folder import Folder, make_absolutizing_url_mutator

from kdr_wsgi.errors import UnusableWTML

#: Some 6,000 places, with all that they hold; they take a few seconds.
MAX_ELEMENTS = 50_000
#: Each element within another takes several frames of Python's stack.
MAX_DEPTH = 64
#: What URLs may take once they are absolute.
MAX_URL_CHARACTERS = 8 * 1024 * 1024

#: What results may take of a worker's memory.
CACHE_BYTES = 32 * 1024 * 1024


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
    made = _make_once(source, url)
    if isinstance(made, str):
        raise UnusableWTML(made)
    return made


def _cache_key(source: bytes, url: str) -> tuple[bytes, str]:
    return blake3(source).digest(), url


@cached(LRUCache(CACHE_BYTES, getsizeof=len), key=_cache_key, condition=Condition())
def _make_once(source: bytes, url: str) -> bytes | str:
    """Return what is made, or the reason why nothing can be, found out once; who asks meanwhile waits."""
    try:
        return _make(source, url)
    except UnusableWTML as error:
        return error.reason


def _make(source: bytes, url: str) -> bytes:
    root = _parse(source)
    try:
        folder = Folder.from_xml(root)
        folder.mutate_urls(_within_limit(make_absolutizing_url_mutator(url)))
        text: str = folder.to_xml_string()
    except (TraitError, ValueError, TypeError, OverflowError) as error:
        raise UnusableWTML("it is no WTML folder, or an attribute has a value that WTML does not know") from error
    return text.encode()


def _parse(source: bytes) -> Element:
    parser = DefusedXMLParser(target=_BoundedTree(), forbid_dtd=True)
    try:
        parser.feed(source)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise UnusableWTML("it has a document type declaration or entities, which are refused") from error
    except (ParseError, LookupError, ValueError) as error:  # The latter two: an encoding that nobody knows.
        raise UnusableWTML(f"it is no well-formed XML ({error})") from error
    return root


class _BoundedTree(TreeBuilder):
    """Builds a tree of elements, and stops at the limits."""

    _elements = 0
    _depth = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._elements += 1
        self._depth += 1
        if self._elements > MAX_ELEMENTS:
            raise UnusableWTML(f"it has more than {MAX_ELEMENTS:,} elements")
        if self._depth > MAX_DEPTH:
            raise UnusableWTML(f"its elements are nested more than {MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)


def _within_limit(mutate: Callable[[str], str]) -> Callable[[str], str]:
    left = MAX_URL_CHARACTERS

    def mutate_and_count(url: str) -> str:
        nonlocal left
        made = mutate(url)
        left -= len(made)
        if left < 0:
            raise UnusableWTML(f"its absolute URLs take more than {MAX_URL_CHARACTERS:,} characters")
        return made

    return mutate_and_count
