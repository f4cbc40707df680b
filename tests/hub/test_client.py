from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import hub as hub_package
from hub import (
    HubError,
    InvalidKey,
    InvalidOption,
    JupyterRelayHub,
    MissingPath,
    NotAFile,
    NotATree,
    RegistryError,
    UnservedWarning,
    UnusablePath,
    get_relay_hub,
)
from hub.servers import announced
from tests.conftest import unprivileged
from tests.forking import in_child


def test_a_tree_and_a_file_get_partial_urls(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a b#.fits").touch()
    folder = hub.serve_tree(tree)
    assert folder == f"/wwtkdr/{folder.key}/"
    file = hub.serve_file(tree / "a b#.fits", ".x")
    assert file == f"/wwtkdr/{file.key}/a%20b%23.fits.x"
    assert len(folder.key) == 64


def test_keys_are_the_same_in_every_process_and_for_every_spelling(registry_path: Path, tree: Path) -> None:
    program = "import hub, sys; print(hub.JupyterRelayHub(registry=sys.argv[1]).serve_tree(sys.argv[2]).key)"
    run = [sys.executable, "-c", program, str(registry_path), str(tree)]
    keys = {subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)}
    made = JupyterRelayHub(registry=registry_path, key_prefix="another_")
    for spelling in (tree, str(tree), os.fsencode(tree), f"{tree}/", f"{tree}/../{tree.name}"):
        keys.add(made.serve_tree(spelling).key)
    made.registry.close()
    assert len(keys) == 1


def test_another_user_cannot_compute_the_key(tmp_path: Path, tree: Path) -> None:
    keys = set()
    for user in ("ada", "eve"):
        made = JupyterRelayHub(registry=tmp_path / user / "registry.sqlite")
        keys.add(made.serve_tree(tree).key)
        made.registry.close()
    assert len(keys) == 2


def test_a_given_key_gets_the_prefix_and_the_last_claim_wins(registry_path: Path, tree: Path) -> None:
    made = JupyterRelayHub(registry=registry_path, base_url="/user/ada/")
    assert made.serve_tree(tree, "tiles/1") == "/user/ada/wwtkdr/pywwt_tiles%2F1/"
    (tree / "a").touch()
    made.serve_file(tree / "a", key="tiles/1")
    found = made.registry.find("pywwt_tiles/1")
    assert found is not None
    assert found.kind == "file"
    made.registry.close()


def test_static_files_have_a_predictable_key_and_are_trusted(registry_path: Path) -> None:
    made = JupyterRelayHub(registry=registry_path, base_url="/")
    url = made.get_static_files_url()
    assert url == f"/wwtkdr/pywwt_static{hub_package.__version__}/"
    assert url.endswith("/")
    found = made.registry.find(url.key)
    assert found is not None
    assert (found.trusted, found.visibility) == (True, "public")
    assert os.path.exists(found.root + b"/preview/pyramid.html")
    made.registry.close()


def test_options_are_stored(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree, visibility="users", trusted=True, ttl=60, headers={"Content-Encoding": "gzip"})
    found = hub.registry.find(url.key)
    assert found is not None
    assert (found.visibility, found.trusted, found.headers) == ("users", True, (("Content-Encoding", "gzip"),))
    assert found.expires_at is not None
    assert found.claimed_at is not None
    assert found.expires_at - found.claimed_at == pytest.approx(60)


def test_the_url_is_a_str_that_can_revoke_itself(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree)
    assert isinstance(url, str)
    assert url + "a" == str(url) + "a"
    assert url.revoke()
    assert hub.registry.find(url.key) is None
    assert not url.revoke()


def test_the_url_travels_as_plain_text(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree)
    for travelled in (pickle.loads(pickle.dumps(url)), copy.deepcopy(url)):
        assert travelled == url
        assert type(travelled) is str


@pytest.mark.parametrize("visibility", ["", "Public", "everyone", "owner"])
def test_an_unknown_visibility_is_refused(hub: JupyterRelayHub, tree: Path, visibility: str) -> None:
    with pytest.raises(InvalidOption, match="choose one of private, users, public"):
        hub.serve_tree(tree, visibility=visibility)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "60"])
def test_a_ttl_is_a_positive_number(hub: JupyterRelayHub, tree: Path, ttl: float) -> None:
    with pytest.raises(InvalidOption, match="positive number of seconds"):
        hub.serve_tree(tree, ttl=ttl)


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"A b": "x"},
        {"A": "x\r\nSet-Cookie: a=b"},
        {"A\r\nB": "x"},
        {"A": "\0"},
        {"A": "銀"},
        {"A": 1},
        {"Content-Length": "5"},
        {"content-type": "text/html"},
        {"ETag": '"x"'},
        {"Access-Control-Allow-Origin": "https://evil"},
        {"Set-Cookie": "a=b"},
        {"Content-Security-Policy": "x"},
        {"Service-Worker-Allowed": "/"},
    ],
)
def test_headers_that_would_harm_are_refused(hub: JupyterRelayHub, tree: Path, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match="cannot be used"):
        hub.serve_tree(tree, headers=headers)


def test_trust_allows_a_policy_of_ones_own(hub: JupyterRelayHub, tree: Path) -> None:
    hub.serve_tree(tree, trusted=True, headers={"Content-Security-Policy": "default-src 'self'"})


def test_every_mistake_says_what_to_do(hub: JupyterRelayHub, tree: Path, tmp_path: Path) -> None:
    (tree / "file").touch()
    os.mkfifo(tree / "fifo")
    (tree / "dangling").symlink_to("nothing")
    (tree / "loop").symlink_to("loop")
    with pytest.raises(MissingPath, match="no such file or directory"):
        hub.serve_tree(tree / "nothing")
    with pytest.raises(FileNotFoundError):
        hub.serve_file(tree / "dangling")
    with pytest.raises(MissingPath):
        hub.serve_file(tree / "file" / "x")
    with pytest.raises(NotAFile, match="it is a directory; call serve_tree"):
        hub.serve_file(tree)
    with pytest.raises(NotAFile, match="not a regular file"):
        hub.serve_file(tree / "fifo")
    with pytest.raises(NotATree, match="not a directory; call serve_file"):
        hub.serve_tree(tree / "file")
    for key in ("", "a\0", "\ud800"):
        with pytest.raises(InvalidKey):
            hub.serve_tree(tree, key)
    with pytest.raises(InvalidKey, match="reserved for the server"):
        hub.serve_tree(tree, "_probe")
    for extension in ("/x", "\0"):
        with pytest.raises(InvalidOption):
            hub.serve_file(tree / "file", extension)
    for path in ("", "\0", tree / "loop", tree / ("n" * 300)):
        with pytest.raises(HubError):
            hub.serve_tree(path)
    with pytest.raises(RegistryError, match="cannot be used"):
        JupyterRelayHub(registry=tree / "file" / "registry").serve_tree(tree)
    assert hub.registry.registrations() == []


def test_an_unwritable_registry_is_told(tmp_path: Path, tree: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    JupyterRelayHub(registry=folder / "registry").serve_tree(tree)
    folder.chmod(0o500)
    for path in folder.iterdir():
        path.chmod(0o400)
    program = (
        "import hub, sys\n"
        "try: hub.JupyterRelayHub(registry=sys.argv[1]).serve_tree(sys.argv[2], 'new')\n"
        "except hub.RegistryError as error: print(error)"
    )
    command = [*unprivileged(), sys.executable, "-c", program, str(folder / "registry"), str(tree)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "cannot be used" in printed


def test_one_hub_per_process_also_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.client._relay_hub", None)
    found = []
    threads = [threading.Thread(target=lambda: found.append(get_relay_hub())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert get_relay_hub(kernel=object()) is found[0]


def test_a_hub_is_right_after_a_fork(hub: JupyterRelayHub, tree: Path) -> None:
    hub.serve_tree(tree, "parent")
    assert in_child(lambda: hub.serve_tree(tree, "child")) == 0
    hub.serve_tree(tree, "again")
    assert [r.key for r in hub.registry.registrations()] == ["again", "child", "parent"]


def test_import_hub_is_light() -> None:
    program = "import hub, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(Path(hub_package.__file__).parents[1])}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout
    loaded = set(printed.split())
    assert not loaded & {
        "flask",
        "werkzeug",
        "gunicorn",
        "jinja2",
        "kdr_wsgi",
        "tornado",
        "jupyterhub",
        "traitlets",
        "pywwt",
    }
    foreign = {name for name in loaded if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign - {"hub", "blake3", "site", "sitecustomize", "usercustomize", "distutils-precedence"} == set()


def test_a_path_behind_a_link_has_a_key_of_its_own(hub: JupyterRelayHub, tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_text("near")
    (tmp_path / "far" / "sub").mkdir(parents=True)
    (tmp_path / "far" / "a").write_text("far")
    (tree / "link").symlink_to(tmp_path / "far" / "sub")
    near = hub.serve_file(tree / "a")
    far = hub.serve_file(f"{tree}/link/../a")
    assert near.key != far.key
    assert hub.serve_tree(f"{tree}/link/..").key == hub.serve_tree(tmp_path / "far").key
    assert hub.serve_file(f"{tree}/../{tree.name}/a").key == near.key


@pytest.mark.parametrize(
    "options",
    [
        {"trusted": "no"},
        {"trusted": None},
        {"headers": ["A: b"]},
        {"headers": "A: b"},
        {"headers": {"Vary": "a", "vary": "b"}},
        {"headers": {"A": "x" * 5000}},
        {"ttl": True},
        {"ttl": 10**400},
        {"key": 5},
        {"key": b"x"},
        {"path": None},
        {"path": 5},
        {"path": "\ud800"},
    ],
)
def test_values_of_the_wrong_kind_are_hub_errors(hub: JupyterRelayHub, tree: Path, options: dict[str, Any]) -> None:
    with pytest.raises(HubError):
        hub.serve_tree(**{"path": tree, **options})
    assert hub.registry.registrations() == []


@pytest.mark.parametrize("extension", [None, b".fits", "\ud800", 5])
def test_an_extension_is_text(hub: JupyterRelayHub, tree: Path, extension: Any) -> None:
    (tree / "a").touch()
    with pytest.raises(InvalidOption):
        hub.serve_file(tree / "a", extension)


def test_errors_travel_between_processes(tmp_path: Path) -> None:
    for error in (
        MissingPath("/x"),
        NotAFile("/x", is_directory=True),
        NotATree("/x"),
        InvalidKey("k", "why"),
        InvalidOption("ttl", -1, "why"),
        RegistryError("/x", "why"),
    ):
        travelled = pickle.loads(pickle.dumps(error))
        assert type(travelled) is type(error)
        assert str(travelled) == str(error)
        assert vars(travelled) == vars(error)


def test_a_base_url_is_quoted(registry_path: Path, tree: Path) -> None:
    made = JupyterRelayHub(registry=registry_path, base_url="/user/a b/", key_prefix="")
    assert made.serve_tree(tree, "k") == "/user/a%20b/wwtkdr/k/"
    made.registry.close()
    assert JupyterRelayHub(base_url="/user/a%20b/").base_url == "/user/a%20b/"
    with pytest.raises(InvalidOption, match="give the path alone"):
        JupyterRelayHub(base_url="https://host/x/")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_what_the_system_shows_of_itself_is_not_published(hub: JupyterRelayHub, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self")
    for path in ("/proc", "/sys", tmp_path / "link"):
        with pytest.raises(UnusablePath, match="the system shows itself or its devices"):
            hub.serve_tree(path)
    with pytest.raises(UnusablePath, match="the system shows itself or its devices"):
        hub.serve_file("/proc/self/environ")
    assert hub.registry.registrations() == []


def test_a_file_that_is_no_registry_gets_no_secret_beside_it(tree: Path) -> None:
    (tree / "cube.dat").write_bytes(b"no database" * 100)
    with pytest.raises(RegistryError, match="name another file in KDR_REGISTRY"):
        JupyterRelayHub(registry=tree / "cube.dat").serve_tree(tree)
    assert os.listdir(tree) == ["cube.dat"]


def publish_in_a_kernel(tmp_path: Path, tree: Path, **environment: str) -> str:
    """Publish in a process that looks like a kernel; return what it says on stderr."""
    program = f"import hub; hub.get_relay_hub().serve_tree({str(tree)!r})"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stderr


def test_a_kernel_is_warned_where_no_server_looks(tmp_path: Path, tree: Path) -> None:
    warned = publish_in_a_kernel(tmp_path, tree, JPY_PARENT_PID="1")
    assert "UnservedWarning: registered, but no server reads" in warned
    assert "pip install 'kdr-wsgi[jupyter]'" in warned
    assert "kdr serve" in warned


def test_nobody_is_warned_who_is_no_kernel_or_whose_registry_is_named_or_served(tmp_path: Path, tree: Path) -> None:
    assert publish_in_a_kernel(tmp_path, tree) == ""
    named = str(tmp_path / "named" / "registry.sqlite")
    assert publish_in_a_kernel(tmp_path, tree, JPY_PARENT_PID="1", KDR_REGISTRY=named) == ""
    with announced(tmp_path / "kdr" / "registry.sqlite", "jupyter", "/", "wwtkdr"):
        assert publish_in_a_kernel(tmp_path, tree, JPY_PARENT_PID="1") == ""
    assert "UnservedWarning" in publish_in_a_kernel(tmp_path, tree, JPY_PARENT_PID="1")


@pytest.mark.parametrize("content", [False, True])
def test_the_warning_points_at_the_line_that_publishes(
    content: bool, tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    relay = JupyterRelayHub()
    with pytest.warns(UnservedWarning) as warned:
        relay.serve_tree(tree, content=content)
    assert [Path(warning.filename) for warning in warned] == [Path(__file__)]
    relay.registry.close()
