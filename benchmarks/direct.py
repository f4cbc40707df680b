"""How fast are tiles, revalidations and ranges, asked of the server directly.

The direct questions of ``python -m benchmarks`` alone: one worker on the first
core, wrk on the last; every server takes its turn in every round, so that a
noisy machine is noisy for all. Run it as ``python -m benchmarks.direct``; it
needs ``wrk`` and ``nginx``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.common import need, shown, write_figures
from benchmarks.figures import Column, Figures
from benchmarks.peers import FLOOR, SEND_PEER, make_site
from benchmarks.processes import LAST_CORE, end_in_order, pin
from benchmarks.questions import CONNECTIONS, QUESTIONS, ask_all, make_files, parts_of

#: Those that are asked if none are chosen.
DEFAULT = ("tiles", "304s", "ranges")


def tell(column: Column) -> None:
    """Print a table of one question."""
    print(f"\n{column.name}")
    print(f"{'':36}{column.unit:>12}{'p99 ms':>10}{'of the floor':>14}{'x Flask':>10}{'failed':>8}")
    for name, row in column.rows.items():
        if row.failure:
            print(f"{name:36}  {row.failure}")
            continue
        floor, flask = (
            shown(row.median / other if row.median is not None and other else None, ".2f")
            for other in (column.rows[peer].median if peer in column.rows else None for peer in (FLOOR, SEND_PEER.name))
        )
        p99 = shown(row.p99_ms, ".2f")
        print(f"{name:36}{shown(row.median, ',.0f'):>12}{p99:>10}{floor:>14}{flask:>10}{row.failed:8}")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of tiles, 304s, ranges, misses and cold")
    parser.add_argument(
        "--question", action="append", choices=parts_of(QUESTIONS), help=f"default: {', '.join(DEFAULT)}"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    need("wrk", "nginx", "taskset")
    end_in_order()
    pin([os.getpid()], [LAST_CORE])
    chosen = [question for question in QUESTIONS if question.part in (options.question or DEFAULT)]
    questions = [
        replace(question, connections=options.connections) if question.connections == CONNECTIONS else question
        for question in chosen
    ]
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        make_files(root)
        site = make_site(Path(name) / "site", root)
        ask_all(figures, questions, site, options.rounds, options.seconds)
    for column in figures:
        tell(column)
    if options.json:
        write_figures(options.json, figures.as_json(), {"rounds": options.rounds, "seconds": options.seconds})


if __name__ == "__main__":
    main()
