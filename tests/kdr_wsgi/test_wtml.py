from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wwt_data_formats.folder import Folder, make_absolutizing_url_mutator
from wwt_data_formats.imageset import ImageSet
from wwt_data_formats.place import Place

from kdr_wsgi import wtml
from kdr_wsgi.errors import UnusableWTML
from kdr_wsgi.wtml import make_absolute

URL = "https://hub.example/user/ada/wwtkdr/k/set/index.wtml"


def catalogue(*urls: str) -> bytes:
    folder = Folder(name="catalogue", url="more.wtml", thumbnail="../thumb.jpg")
    for url in urls:
        place = Place(name="a <place> & more", thumbnail="p.jpg")
        place.foreground_image_set = ImageSet(name="é", url=url, credits_url="https://credits.example/")
        folder.children.append(place)
    return str(folder.to_xml_string()).encode()


def urls_of(text: bytes) -> list[str]:
    return [element.attrib["Url"] for element in ElementTree.fromstring(text).iter("ImageSet")]


def test_every_url_is_joined_to_that_of_the_request() -> None:
    made = make_absolute(catalogue("{1}/{3}/{3}_{2}.png", "//other.example/{1}", "https://other.example/", "/top"), URL)
    assert urls_of(made) == [
        "https://hub.example/user/ada/wwtkdr/k/set/{1}/{3}/{3}_{2}.png",
        "//other.example/{1}",
        "https://other.example/",
        "https://hub.example/top",
    ]
    root = ElementTree.fromstring(made)
    assert root.attrib["Url"] == "https://hub.example/user/ada/wwtkdr/k/set/more.wtml"
    assert root.attrib["Thumbnail"] == "https://hub.example/user/ada/wwtkdr/k/thumb.jpg"
    place = root[0]
    assert (place.attrib["Name"], place.attrib["Thumbnail"]) == ("a <place> & more", urljoin(URL, "p.jpg"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_every_usual_encoding_is_read(encoding: str) -> None:
    text = (
        catalogue("a.png")
        .decode()
        .replace("UTF-8", "latin-1" if encoding == "latin-1" else encoding.removesuffix("-sig"))
    )
    assert 'Name="é"' in make_absolute(text.encode(encoding), URL).decode()


def bomb(levels: int = 12) -> bytes:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, levels))
    return f'<!DOCTYPE Folder [<!ENTITY e0 "lol">{entities}]><Folder Name="&e{levels - 1};"/>'.encode()


HOSTILE = {
    "entities that grow": (bomb(), "document type"),
    "an external entity": (
        b'<!DOCTYPE Folder [<!ENTITY x SYSTEM "file:///etc/passwd">]><Folder><Place><Description>&x;</Description>'
        b"</Place></Folder>",
        "document type",
    ),
    "an external subset": (b'<!DOCTYPE Folder SYSTEM "http://127.0.0.1:1/x.dtd"><Folder/>', "document type"),
    "a parameter entity": (b'<!DOCTYPE F [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><Folder/>', "document type"),
    "an unknown entity": (b"<Folder>&nbsp;</Folder>", "no well-formed XML"),
    "many elements": (b"<Folder>" + b"<a/>" * 60_000 + b"</Folder>", "more than 20,000 elements"),
    "deep elements": (b"<Folder>" * 100 + b"</Folder>" * 100, "nested more than 64 deep"),
    "no end": (b"<Folder>", "no well-formed XML"),
    "nothing": (b"", "no well-formed XML"),
    "no XML": (b"SIMPLE  =                    T", "no well-formed XML"),
    "an unknown encoding": (b'<?xml version="1.0" encoding="x-unknown"?><Folder/>', "no well-formed XML"),
    "another encoding than it says": (b'<?xml version="1.0" encoding="utf-32"?><Folder/>', "no well-formed XML"),
    "another root": (b"<html/>", "no WTML folder"),
    "a word for a number": (b'<Folder><Place RA="west"/></Folder>', "no WTML folder"),
    "a huge number": (b'<Folder MSRCommunityId="' + b"9" * 5000 + b'"/>', "no WTML folder"),
    "no such value": (b'<Folder Type="no such"/>', "no WTML folder"),
    "a broken host": (b'<Folder Url="http://[broken/"/>', "no WTML folder"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(what: str) -> None:
    source, sentence = HOSTILE[what]
    with pytest.raises(UnusableWTML, match=sentence):
        make_absolute(source, URL)


@pytest.mark.parametrize(
    "source",
    [
        b"<Folder>" + b'<Folder Url="a"/>' * 5000 + b"</Folder>",
        b"<Folder Name='" + b'"' * 3_000_000 + b"'/>",
    ],
    ids=["urls", "quotes"],
)
def test_what_is_made_cannot_grow_without_bounds(source: bytes) -> None:
    with pytest.raises(UnusableWTML, match="what is made of it has more than"):
        make_absolute(source, f"https://host/{'x' * 4000}/index.wtml")


@pytest.mark.parametrize(
    "names",
    ["".join(f"<p:a{n}/>" for n in range(3000)), "<a " + " ".join(f'p:a{n}=""' for n in range(3000)) + "/>"],
    ids=["elements", "attributes"],
)
def test_a_namespace_takes_no_more_memory_than_it_has_characters(names: str) -> None:
    source = f'<Folder xmlns:p="{"u" * 1_000_000}">{names}</Folder>'
    # Each name with that of its space would take 3 GB.
    program = (
        "import resource, sys; from kdr_wsgi.wtml import make_absolute; "
        "resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2); "
        "print(make_absolute(sys.stdin.buffer.read(), 'http://host/').decode())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"<Folder " in done.stdout


@given(st.lists(st.text(st.characters(categories=["L", "P", "S", "Zs"]), max_size=12), max_size=3))
def test_it_is_what_wwt_data_formats_makes_in_one_go(urls: list[str]) -> None:
    folder = Folder.from_text(catalogue(*urls).decode())
    with suppress(ValueError, UnusableWTML):
        folder.mutate_urls(make_absolutizing_url_mutator(URL))
        assert make_absolute(catalogue(*urls), URL).decode() == folder.to_xml_string()


@pytest.mark.parametrize("name", ["Xa:b", "Xa:", "xmlns:Xa"])
def test_of_a_namespace_nothing_is_left_that_would_lack_its_declaration(name: str) -> None:
    source = f'<Folder xmlns:Xa="urn:a"><Place {name}="1" XKept="2"/></Folder>'
    (place,) = ElementTree.fromstring(make_absolute(source.encode(), URL))
    assert {key: value for key, value in place.attrib.items() if key.startswith("X")} == {"XKept": "2"}


@pytest.mark.parametrize("url", ["http:a.png", "https:a.png", "http:a&#10;&#13;&#9;b", "https:a&#10;b", "https:"])
def test_a_url_with_a_scheme_and_no_host_becomes_what_it_becomes_in_one_go(url: str) -> None:
    source = f'<Folder Url="{url}"/>'
    folder = Folder.from_text(source)
    folder.mutate_urls(make_absolutizing_url_mutator(URL))
    assert make_absolute(source.encode(), URL).decode() == folder.to_xml_string()


def test_who_asks_meanwhile_waits_and_what_cannot_be_used_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def parse(source: bytes) -> ElementTree.Element:
        parsed.append(source)
        time.sleep(0.1)
        return original(source)

    original = wtml._parse
    monkeypatch.setattr(wtml, "_parse", parse)
    good, bad = catalogue("at-the-same-time.png"), b"<Folder><!-- at the same time -->"
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(partial(make_absolute, url=URL), [good] * 8)]
        for _ in range(2):
            for refused in [pool.submit(make_absolute, bad, URL) for _ in range(4)]:
                with pytest.raises(UnusableWTML, match="no well-formed XML"):
                    refused.result()
    assert answers == [answers[0]] * 8
    assert parsed == [good, bad]


def test_a_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = catalogue("only-once.png")
    made = make_absolute(source, URL)
    monkeypatch.setattr(wtml, "Folder", None)
    assert make_absolute(bytes(bytearray(source)), URL) == made
    assert make_absolute(source, "http://elsewhere.example/") != made
    with pytest.raises(AttributeError):
        make_absolute(catalogue("another.png"), URL)


names = st.sampled_from(
    "Folder Place ImageSet ForegroundImageSet BackgroundImageSet ThumbnailUrl Credits CreditsUrl Description a".split()
)
attributes = st.dictionaries(
    st.sampled_from(
        "Url Name Thumbnail Browseable Type MSRCommunityId RA Dec Lat Constellation Classification DataSetType XAny "
        "BandPass BaseDegreesPerTile Projection FileType Sparse TileLevels WidthFactor".split()
    ),
    st.one_of(
        st.sampled_from(["", "0", "1", "nan", "1e999", "Sky", "True", "a.png", "http://[x"]), st.text(max_size=8)
    ),
    max_size=4,
)
elements: st.SearchStrategy[ElementTree.Element] = st.recursive(
    st.builds(lambda name, values: ElementTree.Element(name, values), names, attributes),
    lambda inner: st.builds(
        lambda name, values, children, text: _element(name, values, children, text),
        names,
        attributes,
        st.lists(inner, max_size=3),
        st.one_of(st.none(), st.text(max_size=5)),
    ),
    max_leaves=8,
)


def _element(
    name: str, values: dict[str, str], children: list[ElementTree.Element], text: str | None
) -> ElementTree.Element:
    made = ElementTree.Element(name, values)
    made.text = text
    made.extend(children)
    return made


@given(st.lists(elements, max_size=3), attributes)
def test_whatever_stands_in_a_file_is_answered_or_refused(
    children: list[ElementTree.Element], values: dict[str, str]
) -> None:
    source = ElementTree.tostring(_element("Folder", values, children, None), encoding="utf-8")
    with suppress(UnusableWTML):
        ElementTree.fromstring(make_absolute(source, URL))


@given(st.binary(max_size=60))
def test_whatever_bytes_a_file_has_they_are_answered_or_refused(noise: bytes) -> None:
    for source in (noise, b"<Folder>" + noise + b"</Folder>", b'<Folder Url="' + noise + b'"/>'):
        with suppress(UnusableWTML):
            make_absolute(source, URL)
