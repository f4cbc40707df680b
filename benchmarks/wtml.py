"""What does a WTML with absolute URLs cost, here and through pywwt's own relay.

Each relay has a real Jupyter server with a kernel, and is asked in turn in every
round. Run it as ``python -m benchmarks.wtml``; it needs ``wrk``, pywwt and
wwt_kernel_data_relay.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import urllib.parse
from contextlib import ExitStack
from pathlib import Path

from wwt_data_formats.folder import Folder
from wwt_data_formats.imageset import ImageSet
from wwt_data_formats.place import Place

from benchmarks.common import Sample, ask_with_wrk, need
from benchmarks.jupyter import LAYOUTS, OLD_RELAY, PUBLISH, PUBLISH_TO_OLD_RELAY, Jupyter, running_jupyter
from kdr_wsgi.wtml import make_absolute

PLACES = (1, 500)
CONNECTIONS = 8
LAYOUT = LAYOUTS["split"]


def make_catalogue(folder: Path, places: int) -> None:
    """Write a relative WTML with so many places."""
    catalogue = Folder(name="catalogue")
    for number in range(places):
        place = Place(name=f"place {number}")
        place.foreground_image_set = ImageSet(name=f"image {number}", url=f"{number}/{{1}}/{{3}}/{{3}}_{{2}}.png")
        catalogue.children.append(place)
    folder.mkdir(parents=True)
    (folder / "index_rel.wtml").write_text(catalogue.to_xml_string(), encoding="utf-8")


def time_making(source: bytes, repeats: int = 5) -> tuple[float, float]:
    """Return the milliseconds that a WTML takes of a source that was not read before, and of one that was."""
    anew: list[float] = []
    again: list[float] = []
    for number in range(repeats):
        changed = source + f"<!-- {number} -->".encode()
        for taken in (anew, again):
            began = time.perf_counter()
            make_absolute(changed, f"https://host-{len(taken)}.example/index.wtml")
            taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(anew), statistics.median(again)


def ask(jupyter: Jupyter, url: str, folder: Path, seconds: int) -> Sample:
    """Let wrk ask for one file, as a page that is logged in does."""
    jupyter.pin(LAYOUT)
    headers = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(text)}" for name, text in jupyter.headers.items()
    )
    return ask_with_wrk(url, headers, folder, seconds, CONNECTIONS, [LAYOUT.client])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options = parser.parse_args()
    need("wrk", "taskset")
    samples: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "root"
        for places in PLACES:
            make_catalogue(root / str(places), places)
        urls: dict[str, tuple[Jupyter, str]] = {}
        for name, extension, publish in (
            ("kdr-wsgi", "kdr_wsgi", PUBLISH),
            (OLD_RELAY, "wwt_kernel_data_relay", PUBLISH_TO_OLD_RELAY),
        ):
            jupyter = stack.enter_context(running_jupyter(folder, root, extension, folder / f"{name}.log"))
            jupyter.wait()
            path = urllib.parse.urlsplit(jupyter.execute(publish.format(root=str(root)))).path
            for places in PLACES:
                urls[f"{name}, index.wtml, {places}"] = (jupyter, f"{jupyter.origin}{path}{places}/index.wtml")
                if extension == "kdr_wsgi":
                    source = f"{jupyter.origin}{path}{places}/index_rel.wtml"
                    urls[f"{name}, index_rel.wtml as it is, {places}"] = (jupyter, source)
        for _ in range(options.rounds):
            for name, (jupyter, url) in urls.items():
                samples.setdefault(name, []).append(ask(jupyter, url, folder, options.seconds))
        sources = {places: (root / str(places) / "index_rel.wtml").read_bytes() for places in PLACES}
    print(f"{'':56}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}")
    for name, taken in samples.items():
        speed = statistics.median(sample.per_second for sample in taken)
        p50, p99 = (statistics.median(getattr(s, f"p{n}_ms") or float("nan") for s in taken) for n in (50, 99))
        failed = sum(sample.failed for sample in taken)
        print(f"{name + ' places':56}{speed:12,.0f}{p50:10.2f}{p99:10.2f}{failed:8}")
    for places, wtml in sources.items():
        anew, again = time_making(wtml)
        print(f"{places} places, {len(wtml):,} bytes: made in {anew:.1f} ms, for another URL in {again:.1f} ms")


if __name__ == "__main__":
    main()
