"""A real JupyterHub, its proxy, and the relay server as a service that its users share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jupyter import Kernel
from tests.jupyterhub import Browser, SharedHub, shared_hub
from tests.raw_http import fetch

DATA = bytes(range(256)) * 40

#: How long the service believes what the hub has told.
LOGIN_SECONDS = 2

#: Who may read what ada publishes, by its visibility.
READERS: list[tuple[object, set[str]]] = [
    ("private", {"ada"}),
    ("users", {"ada", "bob", "eve"}),
    ("public", {"ada", "bob", "eve", ""}),
    (["user:bob"], {"ada", "bob"}),
    (["group:astro"], {"ada", "bob"}),
    (["user:eve", "group:nobody"], {"ada", "eve"}),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedHub]:
    folder = tmp_path_factory.mktemp("shared")
    with shared_hub(folder, environment={"KDR_LOGIN_SECONDS": str(LOGIN_SECONDS)}) as running:
        yield running


@pytest.fixture(scope="module")
def kernels(shared: SharedHub) -> Iterator[dict[str, Kernel]]:
    """A kernel of ada's and one of bob's, each in a Jupyter server of its own."""
    with shared.start_server("ada").kernel() as of_ada, shared.start_server("bob").kernel() as of_bob:
        yield {"ada": of_ada, "bob": of_bob}


@pytest.fixture
def tiles(shared: SharedHub, request: pytest.FixtureRequest) -> Path:
    """A folder of ada's with a file."""
    return make_tiles(shared.home("ada") / f"{request.node.name[:40]}-{time.monotonic_ns()}")


def make_tiles(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(DATA)
    return folder


def is_read(answer: object) -> bool:
    status, body = getattr(answer, "status"), getattr(answer, "body")  # noqa: B009
    return bool(status == 200 and body == DATA)


@pytest.mark.parametrize("user", ["ada", "bob"])
def test_what_a_kernel_publishes_is_read_at_the_service_and_nothing_is_configured_by_the_user(
    shared: SharedHub, kernels: dict[str, Kernel], user: str
) -> None:
    folder = make_tiles(shared.home(user) / "published")
    url = kernels[user].publish(folder)
    assert url.startswith(f"/services/kdr/wwtkdr/{user}~")
    assert is_read(shared.fetch(f"{url}0.png", user))
    part = shared.fetch(f"{url}0.png", user, {"Range": "bytes=-10"})
    assert (part.status, part.body, part["Content-Range"]) == (206, DATA[-10:], "bytes 10230-10239/10240")
    for other in {"ada", "bob", "eve", ""} - {user}:
        assert shared.fetch(f"{url}0.png", other).status == 404


def test_the_same_path_has_the_same_url_in_every_kernel_and_another_one_for_another_user(
    shared: SharedHub, kernels: dict[str, Kernel]
) -> None:
    folder = make_tiles(shared.folder / "shared" / "same")
    first, again = (kernels["ada"].publish(folder) for _ in range(2))
    of_bob = kernels["bob"].publish(folder)
    assert first == again
    assert first.rpartition("~")[2] != of_bob.rpartition("~")[2]
    assert is_read(shared.fetch(f"{of_bob}0.png", "bob"))


@pytest.mark.parametrize(("visibility", "readers"), READERS, ids=[str(visibility) for visibility, _ in READERS])
def test_who_may_read_reads_and_the_others_learn_of_nothing(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch, visibility: str | list[str], readers: set[str]
) -> None:
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles, visibility=visibility)
    found = {user for user in ("ada", "bob", "eve", "") if is_read(shared.fetch(f"{url}0.png", user))}
    assert found == readers
    unknown = shared.fetch("/services/kdr/wwtkdr/ada~nothing/0.png", "eve")
    for user in {"ada", "bob", "eve"} - readers:
        refused = shared.fetch(f"{url}0.png", user)
        assert (refused.status, refused.body) == (404, unknown.body)


def test_a_registration_knows_its_key_and_ends_itself(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = shared.relay_hub("ada", monkeypatch)
    url = hub.serve_tree(tiles, "mine")
    assert url.key == "ada~mine"
    assert [found.key for found, at in hub.registrar.registrations() if at == url] == ["ada~mine"]
    assert is_read(shared.fetch(f"{url}0.png", "ada"))
    assert url.revoke()
    assert not url.revoke()
    assert shared.fetch(f"{url}0.png", "ada").status == 404


def test_a_file_of_any_name_is_served(shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"a #?%25 \xff.fits"
    path = os.path.join(os.fsencode(tiles), name)
    with open(path, "wb") as file:
        file.write(DATA)
    url = shared.relay_hub("ada", monkeypatch).serve_file(path, ".gz")
    # JupyterHub's proxy itself lets no such name pass; others do.
    with_token = {"Authorization": f"token {shared.tokens['ada']}"}
    answer = fetch(("127.0.0.1", shared.service_port), url, with_token)
    assert is_read(answer)
    assert answer["Content-Type"] == "application/gzip"


# --- logins ----------------------------------------------------------------------------------------------------------


def test_a_link_leads_over_the_hubs_login_to_the_file(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles, visibility=["user:bob"])
    browser = Browser(shared.origin)
    page = browser.log_in("bob", f"{url}0.png?a=1")
    assert (page.status, page.url, page.body) == (200, f"{shared.origin}{url}0.png?a=1", DATA)
    # Who is logged in is sent nowhere, and learns of nothing.
    refused = browser.open(f"{shared.relay_hub('ada', monkeypatch).serve_tree(tiles, 'hers')}0.png")
    assert refused.status == 404
    assert browser.open("/services/kdr/wwtkdr/ada~nothing/").status == 404


def test_a_logout_ends_access(shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{shared.relay_hub('ada', monkeypatch).serve_tree(tiles)}0.png"
    browser = Browser(shared.origin)
    assert browser.log_in("ada", address).status == 200
    stolen = browser.cookies(address)
    assert is_read(shared.fetch(address, headers=stolen))
    browser.open("/hub/logout")
    # In the browser at once, since its session is another one; of what was stolen after the time that is promised.
    assert "/hub/login" in browser.open(address).url
    time.sleep(LOGIN_SECONDS)
    assert shared.fetch(address, headers=stolen).status == 404


def test_a_login_that_was_not_begun_here_sets_no_cookie(shared: SharedHub) -> None:
    for query in ("", "?code=abc&state=def", "?state="):
        answer = shared.fetch(f"/services/kdr/oauth_callback{query}")
        assert answer.status == 400
        assert "Set-Cookie" not in answer


def test_tokens_that_are_no_good_are_refused_and_logged(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = shared.relay_hub("ada", monkeypatch)
    address = f"{hub.serve_tree(tiles)}0.png"
    _, narrow = shared.ask("POST", "users/ada/tokens", "ada", {"scopes": ["read:users:name!user"]})
    _, short = shared.ask("POST", "users/ada/tokens", "ada", {"expires_in": 1})
    _, lost = shared.ask("POST", "users/ada/tokens", "ada", {})

    def read(token: str) -> int:
        return shared.fetch(address, headers={"Authorization": f"token {token}"}).status

    def register(token: str) -> int:
        return shared.ask_service("GET", "registrations", token=token)[0]

    assert (read(lost["token"]), register(lost["token"])) == (200, 200)
    assert (read(narrow["token"]), register(narrow["token"])) == (403, 403)
    assert shared.ask("DELETE", f"users/ada/tokens/{lost['id']}", "ada")[0] == 204
    time.sleep(LOGIN_SECONDS)
    for token in (short["token"], lost["token"], "wrong"):
        assert (read(token), register(token)) == (401, 401)
    assert register("") == 401
    log = shared.log.read_text()
    assert "refused: a token of 'ada' without the scope access:services!service=kdr" in log
    assert "refused: a token that the hub does not know" in log
    for token in (narrow["token"], short["token"], lost["token"], shared.tokens["ada"]):
        assert token not in log


@pytest.mark.parametrize(
    "forged",
    [
        {"KDR-Viewer": "owner"},
        {"X-Forwarded-User": "ada", "Remote-User": "ada", "X-Remote-User": "ada"},
        {"Cookie": "service-kdr=ada"},
        {"Cookie": "service-kdr=the-token-of-eve; jupyterhub-session-id=x"},
        {"Authorization": "Basic YWRhOmFkYQ=="},
        {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": ""},
    ],
)
def test_no_header_makes_anybody_somebody_else(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch, forged: dict[str, str]
) -> None:
    address = f"{shared.relay_hub('ada', monkeypatch).serve_tree(tiles)}0.png"
    assert shared.fetch(address, headers=forged).status == 404


def test_pages_of_other_sites_read_only_what_is_public(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = shared.relay_hub("ada", monkeypatch)
    private, public = f"{hub.serve_tree(tiles)}0.png", f"{hub.serve_tree(tiles, 'open', visibility='public')}0.png"
    browser = Browser(shared.origin)
    browser.log_in("ada", private)
    cookies = browser.cookies(private)
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert is_read(shared.fetch(private, headers={**cookies, "Sec-Fetch-Site": "same-origin"}))
    assert shared.fetch(private, headers={**cookies, **foreign}).status == 404
    assert shared.fetch(private, headers={**cookies, "Origin": "null"}).status == 404
    assert is_read(shared.fetch(public, headers={**cookies, **foreign}))
    assert shared.fetch(private, "ada")["Cross-Origin-Resource-Policy"] == "same-origin"


# --- publishing ------------------------------------------------------------------------------------------------------


def test_a_cookie_publishes_nothing(shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{shared.relay_hub('ada', monkeypatch).serve_tree(tiles)}0.png"
    browser = Browser(shared.origin)
    browser.log_in("ada", address)
    answer = shared.fetch("/services/kdr/wwtkdr/_api/registrations", headers=browser.cookies(address))
    assert answer.status == 401


def test_nobody_takes_over_a_key_of_somebody_else(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_ada = shared.relay_hub("ada", monkeypatch).serve_tree(tiles, "tiles", visibility="public")
    hostile = make_tiles(shared.home("eve") / f"hostile-{time.monotonic_ns()}")
    (hostile / "0.png").write_bytes(b"hostile")
    eve = shared.relay_hub("eve", monkeypatch)
    for key in ("tiles", "ada~tiles", "../ada~tiles"):
        url = eve.serve_tree(hostile, key, visibility="public")
        assert url.key == f"eve~{key}"
    assert not eve.registrar.revoke("ada~tiles")
    assert "'eve' may not revoke 'ada~tiles'" in shared.log.read_text()
    assert is_read(shared.fetch(f"{of_ada}0.png"))


def test_what_the_administrator_has_not_allowed_is_not_published(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub import ServiceRefused

    eve = shared.relay_hub("eve", monkeypatch)
    link = shared.home("eve") / f"link-{time.monotonic_ns()}"
    link.symlink_to(tiles)
    for path in (tiles, link, Path("/etc"), shared.folder, shared.folder / "homes", shared.folder / "kdr-service"):
        with pytest.raises(ServiceRefused, match="it lies in no folder that the administrator lets you publish"):
            eve.serve_tree(path)
        assert f"'eve' may not publish {os.fsencode(path.resolve())!r}" in shared.log.read_text()
    # A client that does not resolve links gets no further.
    told = {"kind": "tree", "root": str(link), "place": str(link), "name": "", "key": "", "visibility": "public"}
    rest = {"trusted": False, "headers": {}, "content": "", "signature": "", "is_kept": False, "extension": ""}
    status, answer = shared.ask_service("POST", "registrations", "eve", {**told, **rest})
    assert status == 403
    assert "or a link leads there" in answer["error"]
    dots = f"{shared.home('eve')}/../ada/{tiles.name}"
    status, _ = shared.ask_service("POST", "registrations", "eve", {**told, **rest, "root": dots})
    assert status == 403


@pytest.mark.parametrize("swapped", ["root", "above", "inside"])
@pytest.mark.parametrize("content", [False, True])
def test_a_link_that_is_swapped_in_later_serves_nothing_of_others(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch, swapped: str, content: bool
) -> None:
    (tiles / "sub").mkdir()
    (tiles / "sub" / "0.png").write_bytes(DATA)
    top = shared.home("eve") / f"top-{time.monotonic_ns()}"
    root = top / "tree"
    make_tiles(root / "sub")
    hub = shared.relay_hub("eve", monkeypatch)
    address = f"{hub.serve_tree(root, content=content, visibility='public')}sub/0.png"
    file_address = hub.serve_file(root / "sub" / "0.png", content=content, visibility="public")
    assert is_read(shared.fetch(address))
    assert is_read(shared.fetch(file_address))
    place = {"root": root, "above": top, "inside": root / "sub"}[swapped]
    os.rename(place, f"{place}.old")
    target = shared.home("ada") / "target"
    target.unlink(missing_ok=True)
    target.symlink_to(tiles)
    # What is reached by the link has the same names, of ada's files.
    (tiles / "tree").mkdir(exist_ok=True)
    (tiles / "tree" / "sub").mkdir(exist_ok=True)
    (tiles / "tree" / "sub" / "0.png").write_bytes(DATA)
    place.symlink_to(tiles / "sub" if swapped == "inside" else tiles)
    for url in (address, file_address, address.removesuffix("sub/0.png"), address.removesuffix("0.png")):
        answer = shared.fetch(url)
        assert DATA not in answer.body
        if url.endswith("0.png"):
            assert answer.status == (410 if content else 404)


def test_trust_is_refused_where_all_pages_share_a_host(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub import ServiceRefused

    with pytest.raises(ServiceRefused, match="all users' pages share one host"):
        shared.relay_hub("ada", monkeypatch).serve_tree(tiles, trusted=True)
    assert "'ada' wants trust for" in shared.log.read_text()


def test_the_services_own_static_files_are_there_for_all(shared: SharedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    url = shared.relay_hub("ada", monkeypatch).get_static_files_url()
    page = shared.fetch(f"{url}pyramid.html")
    assert page.status == 200
    assert "Content-Security-Policy" not in page
