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
