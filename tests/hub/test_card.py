"""What a notebook and a terminal show of a publication."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter

from hub import JupyterRelayHub, PublishedURL, RegistryError, measuring
from hub.card import MAX_THUMBNAIL_BYTES, Facts, show_card, show_text, url_before
from hub.registrar import Registrar
from hub.registration import Registration
from hub.wording import say_readers, say_size


class _Reader(HTMLParser):
    """Takes a card apart as a browser does: its elements, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._is_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._is_code = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False

    def handle_data(self, data: str) -> None:
        if not self._is_code:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


_TEXTS = st.text(min_size=1) | st.text("<>\"'&/=!- ab", min_size=1)


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


def card_of(url: PublishedURL) -> _Reader:
    return read(url._repr_html_())


def shown_by_ipython(value: object) -> dict[str, str]:
    formats: dict[str, str] = DisplayFormatter().format(value)[0]  # type: ignore[no-untyped-call]
    return formats


def text_of(value: object) -> str:
    """Return what IPython shows in a terminal."""
    return shown_by_ipython(value)["text/plain"]


def test_a_card_has_the_link_and_the_facts(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_bytes(bytes(1000))
    (tree / "below").mkdir()
    (tree / "below" / "b").write_bytes(bytes(500))
    url = hub.serve_tree(tree, visibility="users", ttl=3600)
    card = card_of(url)
    (link,) = card.all("a")
    assert link == {"href": str(url), "target": "_blank", "rel": "noopener"}
    for said in ("tree", "folder, 2 files, 1.50 kB", "whoever is logged in", f"Key {url.key[:8]} "):
        assert said in card.text
    assert {"title": "1,500 bytes"} in card.all("span")
    assert {"title": url.key} in card.all("span")
    assert "when revoked" not in card.text
    assert "Trusted" not in card.text


def test_trust_is_warned_of(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree, trusted=True)
    assert "act with the login of whoever opens them" in card_of(url).text
    assert "trusted" in text_of(url)


def test_a_card_of_what_was_revoked_says_so(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree)
    url.revoke()
    card = card_of(url)
    assert "any more" in card.text
    assert card.all("script") == [], "there is nothing to revoke"


def test_a_card_of_what_is_gone_from_the_disk_says_so(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree)
    tree.rmdir()
    assert "cannot be read: no such file or directory" in card_of(url).text


def test_a_registry_that_cannot_be_read_leaves_the_link(hub: JupyterRelayHub, tree: Path) -> None:
    class Broken:
        registry_path = Path()

        def find(self, key: str) -> None:
            raise RegistryError("there", "it is not to be read")

    made = hub.serve_tree(tree)
    url = PublishedURL(str(made), made.key, Broken())  # type: ignore[arg-type]
    card = card_of(url)
    assert card.all("a")[0]["href"] == str(made)
    assert "it is not to be read" in card.text


@pytest.mark.parametrize(
    ("name", "size_bytes", "is_shown"),
    [
        ("a.png", 10, True),
        ("a.JPG", 10, True),
        ("a.svg", 10, True),
        ("a.png", MAX_THUMBNAIL_BYTES + 1, False),
        ("a.fits", 10, False),
        ("png", 10, False),
    ],
)
def test_a_small_image_has_a_thumbnail(
    hub: JupyterRelayHub, tmp_path: Path, name: str, size_bytes: int, is_shown: bool
) -> None:
    with open(tmp_path / name, "wb") as file:
        file.truncate(size_bytes)
    url = hub.serve_file(tmp_path / name)
    images = card_of(url).all("img")
    assert [image["src"] for image in images] == ([str(url)] if is_shown else [])
    assert all(image["loading"] == "lazy" for image in images)


@pytest.mark.parametrize(
    ("names", "page"), [(["index_rel.wtml"], "pyramid"), ([".zgroup"], "zarr"), (["notes.txt"], None)]
)
def test_a_folder_that_is_known_has_a_preview_that_is_closed(
    hub: JupyterRelayHub, tree: Path, names: list[str], page: str | None
) -> None:
    for name in names:
        (tree / name).touch()
    url = hub.serve_tree(tree, "k")
    frames = card_of(url).all("iframe")
    if page is None:
        assert frames == []
        return
    (frame,) = frames
    assert frame["src"] == f"/wwtkdr/_static/preview/{page}.html?url=../../k/"
    assert frame["loading"] == "lazy"
    assert "open" not in card_of(url).all("details")[0]


def test_a_content_key_knows_exactly(hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tree / f"{number}").write_bytes(bytes(10))
    (tree / "below").mkdir()
    (tree / "below" / "b").write_bytes(bytes(700))
    url = hub.serve_tree(tree, content=True)
    monkeypatch.setattr(measuring, "MAX_ENTRIES", 3)
    assert "31 files, 1.00 kB" in card_of(url).text
    (tree / "1").unlink()
    assert "31 files, 1.00 kB" in card_of(url).text, "what was promised"
    file = hub.serve_file(tree / "2", ".txt", content=True)
    assert "2.txt" in card_of(file).text
    assert "10 bytes" in card_of(file).text


def test_each_name_of_one_content_is_shown(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_bytes(b"x")
    (tree / "b").write_bytes(b"x")
    first, second = (hub.serve_file(tree / name, content=True) for name in ("a", "b"))
    assert first.key == second.key
    assert [card.all("strong") and card.texts[0] for card in map(card_of, (first, second))] == ["a", "b"]


def test_a_folder_is_counted_no_further_than_the_limit(
    hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tree / f"{number}").touch()
    url = hub.serve_tree(tree)
    monkeypatch.setattr(measuring, "MAX_ENTRIES", 10)
    assert "more than 10 files" in card_of(url).text
    monkeypatch.setattr(measuring, "MAX_ENTRIES", 1000)
    monkeypatch.setattr(measuring, "MAX_SECONDS", -1)
    assert "more than 0 files" in card_of(url).text


def test_links_are_neither_counted_nor_followed(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_bytes(bytes(7))
    (tree / "again").symlink_to("a")
    (tree / "round").symlink_to(".")
    os.mkfifo(tree / "fifo")
    assert "1 file, 7 bytes" in card_of(hub.serve_tree(tree)).text


@given(name=_TEXTS, key=_TEXTS)
@example(name="<b>", key="k")
@example(name="\"' onload=alert(1) ", key="\"' onload=alert(1) ")
@example(name="n", key="</span><b>")
@example(name="</script><b>", key="</style><b>")
def test_whatever_things_are_called_a_card_shows_as_text(name: str, key: str) -> None:
    plain = Registration("k", "file", b"/r", name=b"n")
    name, key = (text.encode("utf-8", "replace").decode() for text in (name, key))
    named = Registration(key, "file", b"/r", name=name.encode() or b"n")
    shapes = []
    for registration in (plain, named):
        url = PublishedURL(
            f"/a/wwtkdr/{registration.target}".encode("ascii", "replace").decode(), registration.key, _NO
        )
        card = read(show_card(url, Facts(registration, measuring.Measure(1, 10**9), "")))
        shapes.append([(tag, sorted(attributes)) for tag, attributes in card.elements if tag not in _PREVIEW])
    assert shapes[0] == shapes[1], "a name has made an element or an attribute"


_PREVIEW = ("details", "summary", "iframe", "a")
_NO: Registrar = None  # type: ignore[assignment]


@given(key=st.text(min_size=1), name=st.binary())
def test_what_is_before_the_key_is_found(key: str, name: bytes) -> None:
    key = key.encode("utf-8", "replace").decode()
    registration = Registration(key, "file", b"/r", name=name)
    assert url_before(PublishedURL(f"/a/{registration.target}", key, _NO)) == "/a/"


def test_a_terminal_shows_the_url_then_the_facts(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").touch()
    url = hub.serve_tree(tree, "k")
    first, second = text_of(url).split("\n")
    assert first == "/wwtkdr/k/"
    assert second == "  tree/; 1 file, 0 bytes; read by only you; ends when revoked; key k"


def test_no_name_acts_on_a_terminal(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a\x1b[2J\nb\u202e.txt").touch()
    url = hub.serve_file(tree / "a\x1b[2J\nb\u202e.txt", key="k\x1b]0;title\x07")
    first, second = text_of(url).split("\n")
    assert second.startswith("  a�[2J�b�.txt; ")
    assert (first + second).isprintable()


def test_a_notebook_counts_once_and_never_shows_what_was(
    hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = hub.serve_tree(tree, "k")
    counted = []

    def measure(registration: Registration, _registry: Path) -> measuring.Measure:
        counted.append(registration)
        return measuring.Measure(1, 1)

    monkeypatch.setattr("hub.card.measure", measure)
    assert "<a href" in shown_by_ipython(url)["text/html"]
    assert len(counted) == 1
    url.revoke()
    assert "Nothing is published" in shown_by_ipython(url)["text/html"]
    hub.serve_tree(tree, "k")
    assert "Nothing is published" not in url._repr_html_()


def test_what_prints_the_url_prints_it_alone(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree, "k")
    assert f"{url}" == str(url) == "/wwtkdr/k/"
    assert repr(url) == "'/wwtkdr/k/'"
    assert text_of([url]) == "['/wwtkdr/k/']"


def test_a_name_that_is_not_utf_8_is_shown(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / os.fsdecode(b"\xff.csv")).touch()
    url = hub.serve_file(os.path.join(os.fsencode(tree), b"\xff.csv"))
    card = card_of(url)
    assert "�.csv" in card.text
    assert str(card.all("iframe")[0]["src"]).endswith("%25FF.csv")
    card.text.encode()


def test_a_card_is_of_what_is_published_now(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree, "k")
    hub.serve_tree(tree, "k", visibility="public")
    assert "everyone" in card_of(url).text


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (42_000_000_000, "42.0 GB"),
        (10**18, "1,000 PB"),
    ],
)
def test_sizes_have_three_digits(size_bytes: int, said: str) -> None:
    assert say_size(size_bytes) == said


def test_readers_are_named() -> None:
    listed = Registration("k", "tree", b"/r", visibility="listed", audience=("user:bob", "group:astro"))
    assert say_readers(listed) == "you, bob, group astro"


def test_text_of_what_nobody_can_tell() -> None:
    assert show_text(PublishedURL("/a/", "a", _NO), Facts(None, None, "Gone.")) == "/a/\n  Gone."


def test_who_shows_nothing_loads_no_card(registry_path: Path, tree: Path) -> None:
    program = (
        "import hub, sys; hub.JupyterRelayHub(registry=sys.argv[1], base_url='/').serve_tree(sys.argv[2]); "
        "print({'hub.card', 'hub.publications', 'html'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program, str(registry_path), str(tree)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "set()\n"
