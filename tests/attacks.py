"""What attackers send."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

#: Two dots, or what somebody might take for them once it is decoded, once too often or in another way.
DOTS = (
    *("..", "%2e%2e", ".%2E", "%252e%252e", "%25252e%25252e", "%%32e%%32e", "%u002e%u002e", "&#46;&#46;"),
    # Overlong UTF-8 (RFC 3629, 3), escaped and not; and characters that Unicode's compatibility makes dots of.
    *("%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%f0%80%80%ae%f0%80%80%ae", "%c0%2e%c0%2e", "\xc0\xae\xc0\xae"),
    *("%ef%bc%8e%ef%bc%8e", "\xef\xbc\x8e\xef\xbc\x8e", "%e2%80%a5", "%uff0e%uff0e"),
    # What some systems drop.
    *("..%00", "%00..", ".%00.", "..%20", "..%09", "..%0d%0a", "..%c2%a0", "..%e2%80%8b", "...", "....", "..%2e"),
    *("..;", "..;a=b", "..%3b", "..%3f", "..%23", "..::$DATA", "..%7f", "..\xff"),
)

#: A slash, or what somebody might take for one.
SLASHES = (
    *("/", "%2f", "%2F", "%252f", "%25252f", "//", "/./", "/%2e/", "/;/", ";/", "/;a=b/", "%00/", "%20/", "/%20"),
    *("\\", "%5c", "%255c", "\\/", "%u2215", "%u2216"),
    *("%c0%af", "%e0%80%af", "%c1%9c", "%c0%2f", "\xc0\xaf", "%ef%bc%8f", "%e2%88%95", "%e2%81%84"),
)

#: What stands in front.
PREFIXES = (
    *("", "/", "%2f", "./", "sub/", "sub%2f", "inside/", "missing/", "file/", "%00/", "sub%00/"),
    *(
        "C:",
        "C:/",
        "C%3a%5c",
        "file:",
        "file:///",
        "file:%2f%2f%2f",
        "\\\\",
        "%5c%5c.%5c",
        "//%3f/",
        "//./",
        "~/",
        "$PWD/",
    ),
    "n" * 300 + "/",
    "./" * 1000,
)


def traversals(path: str) -> Iterator[str]:
    """Yield what might lead out of a folder: one level up, or up to the top and down along an absolute `path`.

    The folder is to have ``sub``, a link ``inside`` to it, and ``file``.
    """
    name = path.rpartition("/")[2]
    levels = path.count("/") + 3
    for prefix, dots, slash in product(PREFIXES, DOTS, SLASHES):
        up = dots + slash
        yield prefix + up + name
        if prefix:
            # Down by as many names as there are, then up by one more.
            yield prefix + up * 2 + name
        else:
            yield up * levels + path.lstrip("/").replace("/", slash)
    # The path itself, with what is put between, in front or behind.
    for prefix, slash in product(PREFIXES, SLASHES):
        absolute = path.replace("/", slash)
        yield from (prefix + absolute, prefix + absolute.lstrip("/"))
        for behind in ("%00", "%00.png", "%20", ".", "%2e", "/", "/.", "::$DATA", ";.png", "%0a"):
            yield f"{prefix}..{slash}{name}{behind}"


#: Exchanges each second of the paths that it is given with the one before, until its input ends; prints how often. In
#: between it waits up to the seconds given first.
SWAP = """
import ctypes, os, random, select, sys, time

libc = ctypes.CDLL(None, use_errno=True)
longest = float(sys.argv[1])
pairs = list(zip(*[iter(map(os.fsencode, sys.argv[2:]))] * 2))
count = 0
print(flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for one, other in pairs:
        # renameat2(2), RENAME_EXCHANGE: both are there at any moment.
        if libc.renameat2(-100, one, -100, other, 2) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
        time.sleep(random.random() * longest)
    count += 1
print(count * len(pairs))
"""


def smuggling(target: str, headers: str, hidden: bytes) -> dict[str, bytes]:
    """Return requests within which `hidden` is, which is one too, for whoever takes the end of the body for elsewhere.

    Parameters
    ----------
    target : str
    headers : str
        Those of each request, with their ends of line.
    hidden : bytes
        A whole request.
    """
    size = len(hidden)
    start = f"GET {target} HTTP/1.1\r\n{headers}"
    ended = b"0\r\n\r\n" + hidden
    chunked = f"{len(hidden):x}\r\n".encode() + hidden + b"\r\n0\r\n\r\n"
    made: dict[str, bytes] = {}
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "CONNECT"):
        head = f"{method} {target} HTTP/1.1\r\n{headers}Content-Length: {size}\r\n\r\n"
        made[f"{method} with a body"] = head.encode() + hidden
    # Lengths of which only one counts, or that are none.
    for name, lines in {
        "two lengths": f"Content-Length: 0\r\nContent-Length: {size}\r\n",
        "two lengths, the other way round": f"Content-Length: {size}\r\nContent-Length: 0\r\n",
        "a list of lengths": f"Content-Length: 0, {size}\r\n",
        "a list of lengths, the other way round": f"Content-Length: {size}, 0\r\n",
        "a length with a plus": f"Content-Length: +{size}\r\n",
        "a length with a minus": f"Content-Length: -{size}\r\n",
        "a length in hexadecimal": f"Content-Length: {size:#x}\r\n",
        "a length with a point": f"Content-Length: {size}.0\r\n",
        "a length with an underscore": f"Content-Length: {size // 10}_{size % 10}\r\n",
        "a length in quotes": f'Content-Length: "{size}"\r\n',
        "a length with a vertical tab": f"Content-Length: \x0b{size}\r\n",
        "a length with a NUL": f"Content-Length: {size}\0\r\n",
        "a length in other digits": f"Content-Length: {size}\xb2\r\n",
        "an empty length": f"Content-Length:\r\nX-Content-Length: {size}\r\n",
        "a length and a space before its colon": f"Content-Length : {size}\r\n",
        "a length and a tab before its colon": f"Content-Length\t: {size}\r\n",
        "a length behind a space": f" Content-Length: {size}\r\n",
        "a length on a folded line": f"Content-Length:\r\n {size}\r\n",
        "a length folded into another header": f"X-A: a\r\n Content-Length: {size}\r\n",
        "a length behind a bare LF": f"X-A: a\nContent-Length: {size}\r\n",
        "a length behind a bare CR": f"X-A: a\rContent-Length: {size}\r\n",
        "a length and another with an underscore": f"Content_Length: 0\r\nContent-Length: {size}\r\n",
        "a length that the connection forgets": f"Connection: content-length\r\nContent-Length: {size}\r\n",
        "a length behind Expect": f"Expect: 100-continue\r\nContent-Length: {size}\r\n",
        "a length behind Upgrade": f"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {size}\r\n",
        "a length behind h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        f"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: {size}\r\n",
    }.items():
        made[name] = (start + lines + "\r\n").encode("latin-1") + hidden
    # Codings that are, or are not, chunked; the length covers what chunked would leave over.
    for name, lines in {
        "chunked": "Transfer-Encoding: chunked\r\n",
        "chunked, written large": "TRANSFER-ENCODING: CHUNKED\r\n",
        "a space before the colon": "Transfer-Encoding : chunked\r\n",
        "a tab before the value": "Transfer-Encoding:\tchunked\r\n",
        "a vertical tab": "Transfer-Encoding: \x0bchunked\r\n",
        "a vertical tab behind": "Transfer-Encoding: chunked\x0b\r\n",
        "quotes": 'Transfer-Encoding: "chunked"\r\n',
        "another word": "Transfer-Encoding: xchunked\r\n",
        "a parameter": "Transfer-Encoding: chunked;q=1\r\n",
        "identity": "Transfer-Encoding: identity\r\n",
        "chunked, identity": "Transfer-Encoding: chunked, identity\r\n",
        "identity, chunked": "Transfer-Encoding: identity, chunked\r\n",
        "gzip, chunked": "Transfer-Encoding: gzip, chunked\r\n",
        "chunked twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "chunked and another": "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n",
        "a folded line": "Transfer-Encoding:\r\n chunked\r\n",
        "folded into another": "X-A: a\r\n Transfer-Encoding: chunked\r\n",
        "behind a bare LF": "X-A: a\nTransfer-Encoding: chunked\r\n",
        "behind a bare CR": "X-A: a\rTransfer-Encoding: chunked\r\n",
        "an underscore": "Transfer_Encoding: chunked\r\n",
        "a NUL": "Transfer-Encoding: chunked\0\r\n",
        "a name in other letters": "Transfer-Encod\xefng: chunked\r\n",
        "forgotten by the connection": "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
    }.items():
        length = f"Content-Length: {len(ended)}\r\n"
        made[f"coding and length: {name}"] = (start + lines + length + "\r\n").encode("latin-1") + ended
        made[f"length and coding: {name}"] = (start + length + lines + "\r\n").encode("latin-1") + ended
    # Chunks, all of whose bytes are the body.
    coded = (start + "Transfer-Encoding: chunked\r\n\r\n").encode()
    for name, body in {
        "a chunk": chunked,
        "an extension": chunked.replace(b"\r\n", b";a=b\r\n", 1),
        "an extension in quotes": chunked.replace(b"\r\n", b';a="\\"b"\r\n', 1),
        "a long extension": chunked.replace(b"\r\n", b";" + b"a" * 20_000 + b"\r\n", 1),
        "a bare LF in an extension": b"2;\nxx\r\n" + chunked,
        "a bare CR in an extension": b"2;\rxx\r\nab\r\n" + chunked,
        "a bare LF behind a size": chunked.replace(b"\r\n", b"\n", 1),
        "a size with 0x": b"0x" + chunked,
        "a size with a plus": b"+" + chunked,
        "a size with a space": b" " + chunked,
        "a size with an underscore": b"1_" + chunked,
        "a negative size": b"-" + chunked,
        "a size beyond 64 bits": b"1" + b"0" * 16 + chunked,
        "no size": b"\r\n" + chunked,
        "more than its size": b"1\r\nab" + chunked,
        "a trailer": b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "a trailer that is a request": b"0\r\n" + hidden,
    }.items():
        made[f"chunked: {name}"] = coded + body
    made["chunked in HTTP/1.0"] = coded.replace(b"HTTP/1.1", b"HTTP/1.0") + chunked
    # Lines that two servers may read otherwise.
    length_line = f"Content-Length: {size}\r\n\r\n".encode()
    for name, line in {
        "a bare LF behind the first line": start.replace("\r\n", "\n", 1),
        "a bare CR in the first line": f"GET {target}\rGET /other HTTP/1.1\r\n{headers}",
        "a bare LF in the target": f"GET {target}\nX-A: a HTTP/1.1\r\n{headers}",
        "a tab in the target": f"GET {target}\tHTTP/1.1 HTTP/1.1\r\n{headers}",
        "a space in the target": f"GET {target} HTTP/1.1 HTTP/1.1\r\n{headers}",
        "a NUL in the target": f"GET {target}\0 HTTP/1.1\r\n{headers}",
        "a vertical tab in the target": f"GET {target}\x0bHTTP/1.1 HTTP/1.1\r\n{headers}",
        "an escaped line in the target": f"GET {target}%20HTTP/1.1%0d%0aX-A:%20a HTTP/1.1\r\n{headers}",
        "the absolute form": f"GET http://evil.example{target} HTTP/1.1\r\n{headers}",
        "the absolute form with a login": f"GET http://a:b@evil.example{target} HTTP/1.1\r\n{headers}",
        "another scheme": f"GET file://{target} HTTP/1.1\r\n{headers}",
        "an authority": f"GET evil.example:80 HTTP/1.1\r\n{headers}",
        "an asterisk": f"OPTIONS * HTTP/1.1\r\n{headers}",
        "a later version": f"GET {target} HTTP/2.0\r\n{headers}",
        "an odd version": f"GET {target} HTTP/1.10\r\n{headers}",
        "two hosts": f"{start}Host: evil.example\r\n",
        "a CR in a header that is passed on": f"{start}Range: bytes=0-1\rX-A: a\r\n",
        "a LF in a header that is passed on": f"{start}Accept: a\nKDR-Viewer: owner\r\n",
        "a NUL in a header that is passed on": f"{start}If-Range: a\0b\r\n",
        "a folded header that is passed on": f"{start}Range: bytes=0-1\r\n GET /other HTTP/1.1\r\n",
        "a header without a name": f"{start}: a\r\n",
        "a header without a colon": f"{start}nonsense\r\n",
        "lines in front": f"\r\n\r\n{start}",
        "headers of the relay": f"{start}KDR-Viewer: owner\r\nConnection: KDR-Viewer, Host, X-Forwarded-Host\r\n",
        "only LF": start.replace("\r\n", "\n"),
    }.items():
        made[name] = line.encode("latin-1") + length_line + hidden
    return made


def hostile_wtml(secret: str, port: int) -> dict[str, bytes]:
    """Return files that would read the file `secret`, or ask at a port of this machine, or never end."""
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    address = f"http://127.0.0.1:{port}/"
    texts = {
        "entities that grow": f'<!DOCTYPE Folder [<!ENTITY e0 "lol">{bomb}]><Folder Name="&e11;"/>',
        "an entity that is long": f'<!DOCTYPE F [<!ENTITY e "{"a" * 100_000}">]><Folder Name="{"&e;" * 100_000}"/>',
        "a file": f'<!DOCTYPE F [<!ENTITY x SYSTEM "file://{secret}">]><Folder><Description>&x;</Description></Folder>',
        "an address": f'<!DOCTYPE F [<!ENTITY x SYSTEM "{address}">]><Folder><Description>&x;</Description></Folder>',
        "a parameter": f'<!DOCTYPE F [<!ENTITY % x SYSTEM "{address}"> %x;]><Folder/>',
        "a subset": f'<!DOCTYPE Folder SYSTEM "{address}x.dtd"><Folder/>',
        "a public subset": f'<!DOCTYPE Folder PUBLIC "-//A//B" "{address}x.dtd"><Folder/>',
        "a schema": f'<Folder xmlns:x="http://www.w3.org/2001/XMLSchema-instance" x:schemaLocation="a {address}"/>',
        "a style sheet": f'<?xml-stylesheet type="text/xsl" href="{address}"?><Folder/>',
        "an inclusion": f'<Folder xmlns:x="http://www.w3.org/2001/XInclude"><x:include href="file://{secret}"/></Folder>',
        "depth": "<Folder>" * 100_000 + "</Folder>" * 100_000,
        "breadth": "<Folder>" + "<Place/>" * 100_000 + "</Folder>",
        "attributes": "<Folder " + " ".join(f'a{number}=""' for number in range(100_000)) + "/>",
        "a long attribute": f'<Folder Name="{"&quot;" * 500_000}"/>',
        "a long name": f"<{'a' * 3_000_000}/>",
        "a long comment": f"<Folder><!--{'a' * 3_000_000}--></Folder>",
        "more than is read": f"<Folder><!--{'a' * 5_000_000}--></Folder>",
        "control characters": '<Folder Name="&#1;&#8;"/>',
        "control characters as they are": '<Folder Name="\x01\x1b"/>',
        "half a character": '<Folder Name="&#xD800;"/>',
        "no end": "<Folder" * 1000,
    }
    return {what: text.encode() for what, text in texts.items()}


#: URLs in a WTML that no viewer should follow; they are passed on as they are, for there is nothing to add to them.
FOREIGN_URLS = ("javascript:alert(1)", "file:///etc/passwd", "data:text/html,<script>", "//evil.example/", "vbscript:a")
