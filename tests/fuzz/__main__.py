"""Fuzz subjects one after the other, each led by what its inputs reach in the code: ``python -m tests.fuzz wtml``.

Without names, all. Each takes as many seconds as ``KDR_TEST_FUZZ_SECONDS`` says.
What reaches something new is kept in ``build/fuzz`` for the next time; what
breaks a rule in ``tests/fuzz/cases``, where the tests find it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hub", "kdr_wsgi", "tests.fuzz.subjects", "werkzeug", "wwt_data_formats"]):
    from tests.fuzz.subjects import SUBJECTS

SECONDS = int(os.environ.get("KDR_TEST_FUZZ_SECONDS", "60"))

#: Of one input: more is a finding.
MAX_SECONDS = 10
MAX_MEGABYTES = 2048

#: A server's limits for a request are of this order.
MAX_BYTES = 10_000

_HERE = Path(__file__).parent
_CORPORA = _HERE.parents[1] / "build" / "fuzz"

#: Of libFuzzer, for an entry of its dictionary.
_MAX_TOKEN_BYTES = 64


def run(name: str) -> bool:
    """Fuzz one subject in a process of its own, since libFuzzer ends the one that it is in; return whether all held."""
    subject = SUBJECTS[name]
    corpus, cases = _CORPORA / name, _HERE / "cases" / name
    for folder in (corpus, cases):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(subject.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = _CORPORA / f"{name}.dict"
    tokens = [token for token in subject.tokens if 0 < len(token) <= _MAX_TOKEN_BYTES]
    escaped = (re.sub("(..)", r"\\x\1", token.hex()) for token in tokens)
    dictionary.write_text("".join(f'"{token}"\n' for token in escaped))
    options = {
        "max_total_time": SECONDS,
        "timeout": MAX_SECONDS,
        "rss_limit_mb": MAX_MEGABYTES,
        "max_len": MAX_BYTES,
        "dict": dictionary,
        "artifact_prefix": f"{cases}/",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "tests.fuzz", "--guided", name]
    arguments = [*(f"-{option}={value}" for option, value in options.items()), str(corpus), str(cases)]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    told = done.stdout.decode(errors="replace")
    executions = re.search(r"number_of_executed_units: *([0-9]+)", told)
    corpus_size = len(list(corpus.iterdir()))
    print(
        f"{name}: {int(executions[1]) if executions else 0:,} executions, {corpus_size:,} inputs kept,",
        "all held" if done.returncode == 0 else f"FAILED\n{told[-4000:]}",
        flush=True,
    )
    with suppress(OSError):  # There are cases.
        cases.rmdir()
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Run the subjects that are named; return the exit code."""
    if arguments[:1] == ["--guided"]:
        atheris.Setup([sys.argv[0], *arguments[2:]], SUBJECTS[arguments[1]].check)
        atheris.Fuzz()
    unknown = set(arguments) - set(SUBJECTS)
    if unknown:
        print(f"there is no subject {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}", file=sys.stderr)
        return 2
    held = [run(name) for name in arguments or SUBJECTS]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
