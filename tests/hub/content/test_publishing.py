from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from hub import HubError, InvalidKey, InvalidOption, JupyterRelayHub, PublishedURL, UnhashableEntry
from tests.conftest import make_settled
from tests.hub.content.executors import Interrupted, Recording
from tests.hub.content.trees import hash_as_documented


@pytest.fixture
def path(tree: Path) -> Path:
    (tree / "a.fits").write_bytes(b"1")
    make_settled(tree / "a.fits")
    return tree / "a.fits"


def test_the_key_is_the_hash_without_a_prefix(registry_path: Path, path: Path) -> None:
    relay = JupyterRelayHub(registry=registry_path, base_url="/", key_prefix="pywwt_")
    assert relay.serve_file(path, content=True).key == blake3(b"1").hexdigest()
    assert relay.serve_tree(path.parent, content=True).key == hash_as_documented(path.parent)
    relay.registry.close()


def test_a_file_is_read_once(hub: JupyterRelayHub, path: Path) -> None:
    for expected in ([b"a.fits"], []):
        recording = Recording()
        hub.serve_file(path, content=True, executor=recording)
        assert recording.entries == expected
    path.write_bytes(b"2")
    recording = Recording()
    assert hub.serve_file(path, content=True, executor=recording).key == blake3(b"2").hexdigest()
    assert recording.entries == [b"a.fits"]


def test_a_file_that_is_published_from_elsewhere_with_the_same_times_is_read(
    hub: JupyterRelayHub, path: Path, tmp_path: Path
) -> None:
    hub.serve_file(path, content=True)
    path.rename(tmp_path / "elsewhere")
    recording = Recording()
    hub.serve_file(tmp_path / "elsewhere", content=True, executor=recording)
    assert recording.entries == [b"elsewhere"]


@pytest.mark.parametrize("serve", [JupyterRelayHub.serve_file, JupyterRelayHub.serve_tree])
def test_options_that_contradict_each_other_are_refused_before_anything_is_read(
    serve: Callable[..., PublishedURL], hub: JupyterRelayHub, path: Path
) -> None:
    what = path if serve is JupyterRelayHub.serve_file else path.parent
    for options in (
        {"content": True, "key": "k"},
        {"content": "yes"},
        {"executor": Recording()},
        {"snapshot": "kept"},
        {"content": True, "snapshot": ""},
        {"content": True, "snapshot": 5},
        {"content": True, "snapshot": b"kept"},
        {"content": True, "snapshot": "a\0b"},
        {"content": True, "snapshot": "~nobody-of-this-name/kept"},
        {"content": True, "executor": 5},
        {"content": True, "visibility": "all"},
        {"content": True, "ttl": -1},
    ):
        recording = Recording()
        with pytest.raises(InvalidOption):
            serve(hub, what, **{"executor": recording if options.get("content") is True else None, **options})
        assert recording.entries == []
    assert hub.registry.registrations() == []


def test_nobody_can_choose_a_key_that_is_a_hash(hub: JupyterRelayHub, path: Path) -> None:
    digest = blake3(b"1").hexdigest()
    for key in (digest, f"{digest}-0123456789abcdef"):
        with pytest.raises(InvalidKey, match="has the form of a hash, which names its content; choose another word"):
            hub.serve_file(path, key=key)
    assert hub.serve_file(path, key=f"{digest}x").key == f"{digest}x"


def test_what_publishing_would_change_is_not_published(tree: Path, hub: JupyterRelayHub) -> None:
    (tree / "a").write_bytes(b"1")
    with pytest.raises(InvalidOption, match="inside the tree that it is to keep; choose another folder"):
        hub.serve_tree(tree, content=True, snapshot=tree / "kept")
    relay = JupyterRelayHub(registry=tree / "registry.sqlite", base_url="/")
    with pytest.raises(UnhashableEntry, match="publish a folder that does not hold it, or name another registry"):
        relay.serve_tree(tree, content=True)
    relay.registry.close()


def test_where_stderr_is_closed_it_works(path: Path, registry_path: Path) -> None:
    command = f'{sys.executable} -m kdr_wsgi publish --content --registry "$0" "$1" 2>&-'
    run = subprocess.run(["sh", "-c", command, registry_path, path], capture_output=True, text=True, check=True)
    assert blake3(b"1").hexdigest() in run.stdout


def test_a_bar_is_not_even_made_where_nobody_looks(path: Path, registry_path: Path) -> None:
    """tqdm's lock is shared with processes: a forked child that is killed while it holds it would stop all others."""
    program = (
        f"import hub, sys; relay = hub.JupyterRelayHub(registry={os.fspath(registry_path)!r}, base_url='/'); "
        f"relay.serve_tree({os.fspath(path.parent)!r}, content=True); print('tqdm' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_interrupted_it_has_registered_nothing(hub: JupyterRelayHub, path: Path) -> None:
    for serve, what in ((hub.serve_file, path), (hub.serve_tree, path.parent)):
        with pytest.raises(KeyboardInterrupt):
            serve(what, content=True, executor=Interrupted(0))
    assert hub.registry.registrations() == []


def test_errors_of_the_executor_come_as_they_are(hub: JupyterRelayHub, path: Path) -> None:
    class Broken(Recording):
        def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
            failed: Future[Any] = Future()
            failed.set_exception(ZeroDivisionError("on the cluster"))
            return failed

    with pytest.raises(ZeroDivisionError, match="on the cluster"):
        hub.serve_tree(path.parent, content=True, executor=Broken())


def test_any_executor_of_python_hashes(hub: JupyterRelayHub, path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        assert hub.serve_tree(path.parent, content=True, executor=threads).key == hash_as_documented(path.parent)
        assert hub.serve_file(path, content=True, executor=threads).key == blake3(b"1").hexdigest()


def test_threads_publish_at_once(hub: JupyterRelayHub, path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: hub.serve_tree(path.parent, content=True), range(16)))
    assert len(found) == 1


def test_a_child_of_a_fork_publishes(hub: JupyterRelayHub, path: Path) -> None:
    url = hub.serve_tree(path.parent, content=True)
    child = os.fork()
    if child == 0:
        os._exit(0 if hub.serve_tree(path.parent, content=True) == url else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_error_comes_back_from_another_process(path: Path) -> None:
    error = pickle.loads(pickle.dumps(UnhashableEntry("/data/a", "Permission denied")))  # made here
    assert isinstance(error, HubError)
    assert str(error) == "no content key can be made, since '/data/a' cannot be hashed: Permission denied"


def test_import_hub_does_not_pay_for_it() -> None:
    program = (
        "import sys, hub; "
        "print(sorted({'mmap', 'tempfile', 'subprocess', 'concurrent.futures', 'tqdm'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_thread_may_hash_while_another_publishes_paths(hub: JupyterRelayHub, path: Path) -> None:
    """A lock of the registry must not be held while files are read."""
    reading, go_on = threading.Event(), threading.Event()

    class Slow(Recording):
        def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
            reading.set()
            assert go_on.wait(10)
            return super().submit(function, *arguments, **options)

    with ThreadPoolExecutor(1) as threads:
        hashed = threads.submit(hub.serve_tree, path.parent, content=True, executor=Slow())
        assert reading.wait(10)
        assert hub.serve_file(path).key
        go_on.set()
        assert hashed.result(10).key == hash_as_documented(path.parent)
