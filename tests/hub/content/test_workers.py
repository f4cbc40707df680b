from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hub.content import workers
from hub.content.hashing import hash_batch
from hub.content.manifests import ManifestStore
from hub.content.progress import Progress
from hub.content.trees import hash_tree
from hub.content.workers import hashing
from tests.conftest import make_settled
from tests.hub.content.trees import hash_as_documented


def children_of(process: int) -> set[int]:
    """Return the processes that the threads of `process` have started."""
    found = set()
    for task in Path(f"/proc/{process}/task").glob("*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # The thread has ended.
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found


def started_children(before: set[int]) -> set[int]:
    """Return the processes that this one has started since, whatever else the tests have running."""
    return children_of(os.getpid()) - before


@pytest.fixture
def files(tree: Path) -> Path:
    for number in range(100):
        (tree / f"{number}").write_bytes(b"%d" % number)
    make_settled(tree / "99")
    return tree


@pytest.fixture
def _always_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_FILES_WITHOUT_PROCESSES", 0)


def test_little_is_hashed_here(files: Path) -> None:
    before = started_children(set())
    with hashing(None, Progress("hashing")) as hasher:
        hasher.submit(os.fsencode(files), [b"1"], [1]).result()
        assert started_children(before) == set()


@pytest.mark.usefixtures("_always_processes")
def test_processes_end_with_the_work(files: Path) -> None:
    before = started_children(set())
    with hashing(None, Progress("hashing")) as hasher:
        futures = [hasher.submit(os.fsencode(files), [b"%d" % number], [1]) for number in range(100)]
        assert [future.result() for future in futures] == [
            hash_batch(os.fsencode(files), [b"%d" % number]) for number in range(100)
        ]
        started = started_children(before)
        assert 1 <= len(started) <= len(os.sched_getaffinity(0))
    assert started_children(before) == set()


@pytest.mark.usefixtures("_always_processes")
def test_what_a_killed_process_had_to_do_is_done_all_the_same(files: Path) -> None:
    before = started_children(set())
    with hashing(None, Progress("hashing")) as hasher:
        for number in range(100):
            future = hasher.submit(os.fsencode(files), [b"%d" % number], [1])
            assert future.result() == hash_batch(os.fsencode(files), [b"%d" % number])
            if number % 10 == 0:
                for process in started_children(before):
                    os.kill(process, signal.SIGKILL)


@pytest.mark.usefixtures("_always_processes")
def test_a_mapped_file_that_is_truncated_harms_nobody(tree: Path, registry_path: Path) -> None:
    path = tree / "big"
    with path.open("wb") as file:
        file.truncate(512 << 20)
    store = ManifestStore(registry_path)
    with hashing(None, Progress("hashing")) as hasher:
        future = hasher.submit(os.fsencode(tree), [b"big"], [512 << 20])
        for size in range(400, 0, -40):
            time.sleep(0.01)
            os.truncate(path, size << 20)
        future.result(60)
    assert hash_tree(os.fsencode(tree), store) == hash_as_documented(tree)


@pytest.mark.parametrize("executable", ["/nowhere/python", "", None])
@pytest.mark.usefixtures("_always_processes")
def test_without_an_interpreter_all_is_hashed_here(
    files: Path, executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with hashing(None, Progress("hashing")) as hasher:
        future = hasher.submit(os.fsencode(files), [b"1"], [1])
        assert future.result() == hash_batch(os.fsencode(files), [b"1"])


def test_a_script_needs_no_guard(tree: Path, registry_path: Path, tmp_path: Path) -> None:
    for number in range(3000):
        (tree / f"{number}").write_bytes(b"%d" % number)
    script = tmp_path / "script.py"
    script.write_text(
        "import hub, sys\n"
        "relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url='/')\n"
        "print(relay.serve_tree(sys.argv[2], content=True).key)\n"
    )
    run = subprocess.run(
        [sys.executable, script, registry_path, tree], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout.strip(), run.stderr) == (hash_as_documented(tree), "")


def test_nothing_of_the_working_directory_runs(tree: Path, registry_path: Path, tmp_path: Path) -> None:
    for number in range(3000):
        (tree / f"{number}").write_bytes(b"%d" % number)
    for module in ("pickle", "struct", "blake3", "sitecustomize"):
        (tmp_path / f"{module}.py").write_text(
            f"open({os.fspath(tmp_path / 'ran')!r}, 'w'); print('conda.env\\nactive')"
        )
    code = (
        f"import sys; sys.path.remove(''); import hub; sys.path.append({os.fspath(tmp_path)!r}); "
        f"print(hub.JupyterRelayHub(registry={os.fspath(registry_path)!r}, base_url='/')"
        f".serve_tree({os.fspath(tree)!r}, content=True).key)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout.strip(), run.stderr) == (hash_as_documented(tree), "")
    assert not (tmp_path / "ran").exists()


def test_ctrl_c_ends_all_and_leaves_nothing_registered(tree: Path, registry_path: Path) -> None:
    for number in range(40):
        with (tree / f"{number}").open("wb") as file:
            file.truncate(256 << 20)
    command = [sys.executable, "-m", "kdr_wsgi", "publish", "--content", "--registry", str(registry_path), str(tree)]
    # A shell that runs the tests in the background has them ignore Ctrl-C, and what they start too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 30
    while not (started := children_of(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    printed, complaints = process.communicate(timeout=10)
    assert (process.returncode, printed, complaints) == (130, b"", b"")
    for pid in started:
        assert not Path(f"/proc/{pid}").exists()
    listing = subprocess.run(
        [sys.executable, "-m", "kdr_wsgi", "list", "--json", "--registry", registry_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listing.stdout.strip() == "[]"


INTERRUPTED = """
import itertools, os, sys, threading
from hub.content.progress import Progress
from hub.content.workers import hashing

acquire = threading.Condition.__enter__

def interrupted(condition):
    global left
    is_entered = acquire(condition)
    if threading.get_ident() == threading.main_thread().ident:
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
    return is_entered

for number in itertools.count(1):
    left = number
    threading.Condition.__enter__ = interrupted
    try:
        with hashing(None, Progress("hashing")) as hasher:
            root, size_bytes = os.fsencode(sys.argv[1]), 256 << 20
            for future in [hasher.submit(root, [b"%d" % name], [size_bytes]) for name in range(4)]:
                future.result()
            threading.Condition.__enter__ = acquire
            break
    except KeyboardInterrupt:
        threading.Condition.__enter__ = acquire
print(number > 4)
"""


def test_ctrl_c_while_a_lock_is_held_leaves_nothing_that_waits_for_it(tree: Path) -> None:
    """As CPython does it: the lock of a condition stays held if Ctrl-C comes when it was just acquired."""
    for number in range(4):
        with (tree / f"{number}").open("wb") as file:
            file.truncate(256 << 20)
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tree], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("True\n", "", 0)
