"""A real JupyterHub, its proxy, and the relay server as a service that its users share."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote

import pytest
from blake3 import blake3
from playwright.sync_api import Browser as ChromiumBrowser
from playwright.sync_api import Page

from hub import InvalidOption, JupyterRelayHub, LimitReached, ServiceRefused, ServiceUnreachable
from tests.archives import STORED, write_zip
from tests.conftest import free_port, make_settled, wait_for_port
from tests.e2e.conftest import DOMAIN
from tests.jupyter import Kernel, wait_until
from tests.jupyterhub import EXAMPLE, Browser, SharedHub, find_proxy, hub_process, shared_hub
from tests.raw_http import Answer, fetch

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


#: Another service of the hub, which may use ours.
NAMESAKE_TOKEN = "the-token-of-the-namesake"
NAMESAKE = f"""
c.JupyterHub.services.append({{"name": "ada", "api_token": {NAMESAKE_TOKEN!r}}})
c.JupyterHub.load_roles.append(
    {{"name": "reader", "scopes": ["access:services!service=kdr"], "services": ["ada"]}}
)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedHub]:
    folder = tmp_path_factory.mktemp("shared")
    with shared_hub(folder, environment={"KDR_LOGIN_SECONDS": str(LOGIN_SECONDS)}, more=NAMESAKE) as running:
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


def logged(shared: SharedHub) -> list[dict[str, object]]:
    """Return the lines of the service's access log."""
    return [json.loads(line) for line in shared.log.read_text().splitlines() if line.startswith('{"time"')]


def is_read(answer: Answer) -> bool:
    return (answer.status, answer.body) == (200, DATA)


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


def test_text_is_compressed_once_on_its_way_through_the_hub(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps([*range(5000)]).encode()
    (tiles / "a.json").write_bytes(text)
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles)
    make_settled(tiles / "a.json")
    packed = shared.fetch(f"{url}a.json", "ada", {"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert gzip.decompress(packed.body) == text
    assert (packed["Content-Encoding"], packed["Vary"]) == ("gzip", "Accept-Encoding")
    plain = shared.fetch(f"{url}a.json", "ada")
    assert (plain.body, plain["Vary"]) == (text, packed["Vary"])


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


def test_a_service_that_is_called_like_a_user_is_not_that_user(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = shared.relay_hub("ada", monkeypatch)
    addresses = {name: f"{hub.serve_tree(tiles, str(name), visibility=name)}0.png" for name in ("private", "users")}
    addresses["listed"] = f"{hub.serve_tree(tiles, 'listed', visibility=['user:ada'])}0.png"
    with_token = {"Authorization": f"token {NAMESAKE_TOKEN}"}
    found = {name: shared.fetch(address, headers=with_token).status for name, address in addresses.items()}
    assert found == {"private": 404, "users": 200, "listed": 404}
    assert shared.ask_service("GET", "registrations", token=NAMESAKE_TOKEN)[0] == 401


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


def test_members_of_an_archive_are_read_at_the_service(
    shared: SharedHub, tiles: Path, kernels: dict[str, Kernel]
) -> None:
    archive = write_zip(tiles / "tiles.zip", ("1/2.png", DATA, STORED))
    make_settled(archive)
    url = kernels["ada"].publish(archive)
    assert is_read(shared.fetch(f"{url}1/2.png", "ada"))
    assert shared.fetch(f"{url}1/2.png", "bob").status == 404


def test_nobody_takes_over_a_key_of_somebody_else(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_ada = shared.relay_hub("ada", monkeypatch).serve_tree(tiles, "tiles", visibility="public")
    hostile = make_tiles(shared.home("eve") / f"hostile-{time.monotonic_ns()}")
    (hostile / "0.png").write_bytes(b"hostile")
    eve = shared.relay_hub("eve", monkeypatch)
    assert not eve.registrar.revoke("ada~tiles")
    assert "'eve' may not revoke 'ada~tiles'" in shared.log.read_text()
    for key in ("tiles", "ada~tiles", "../ada~tiles"):
        url = eve.serve_tree(hostile, key, visibility="public")
        assert url.key == f"eve~{key}"
        # A user's own keys need no name in front.
        assert eve.registrar.revoke(key)
        eve.serve_tree(hostile, key, visibility="public")
    assert is_read(shared.fetch(f"{of_ada}0.png"))


def test_what_the_administrator_has_not_allowed_is_not_published(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eve = shared.relay_hub("eve", monkeypatch)
    link = shared.home("eve") / f"link-{time.monotonic_ns()}"
    link.symlink_to(tiles)
    for path in (tiles, link, Path("/etc"), shared.folder, shared.folder / "homes", shared.folder / "kdr-service"):
        with pytest.raises(ServiceRefused, match="what you may publish here lies in these folders"):
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
            wait_until(
                lambda url=url, status=answer.status: any(
                    (line["path"], line["status"]) == (url, status) for line in logged(shared)
                ),
                "it is not logged",
            )


def test_trust_is_refused_where_all_pages_share_a_host(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServiceRefused, match="all users' pages share one host"):
        shared.relay_hub("ada", monkeypatch).serve_tree(tiles, trusted=True)
    assert "'ada' wants trust for" in shared.log.read_text()


def test_the_services_own_static_files_are_there_for_all(shared: SharedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    url = shared.relay_hub("ada", monkeypatch).get_static_files_url()
    page = shared.fetch(f"{url}preview/pyramid.html")
    assert page.status == 200
    assert "Content-Security-Policy" not in page


# --- content keys ----------------------------------------------------------------------------------------------------


def test_content_keys_keep_their_promises_at_the_service_too(
    shared: SharedHub, kernels: dict[str, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiles(shared.home("ada") / f"content-{time.monotonic_ns()}")
    (folder / "large").write_bytes(DATA * 20)
    tree = kernels["ada"].publish(folder, content=True)
    file = shared.relay_hub("ada", monkeypatch).serve_file(folder / "large", content=True)
    hashed = blake3(DATA * 20).hexdigest()
    assert file == f"/services/kdr/wwtkdr/ada~{hashed}/large"
    for address, body in ((f"{tree}0.png", DATA), (f"{tree}large", DATA * 20), (file, DATA * 20)):
        answer = shared.fetch(address, "ada")
        assert (answer.status, answer.body, answer["ETag"]) == (200, body, f'"{blake3(body).hexdigest()}"')
        assert answer["Cache-Control"] == "private, max-age=31536000, immutable"
        assert shared.fetch(address, "ada", {"If-None-Match": answer["ETag"]}).status == 304
        assert shared.fetch(address, "bob").status == 404
    listing = shared.fetch(tree, "ada")
    assert b"large" in listing.body
    (folder / "0.png").write_bytes(b"changed")
    (folder / "large").write_bytes(b"changed")
    assert [shared.fetch(address, "ada").status for address in (f"{tree}0.png", f"{tree}large", file)] == [410] * 3
    again = kernels["ada"].publish(folder, content=True)
    assert again != tree
    assert shared.fetch(f"{again}0.png", "ada").body == b"changed"


def test_equal_data_of_two_users_stay_two_registrations(shared: SharedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {user: make_tiles(shared.home(user) / f"equal-{time.monotonic_ns()}") for user in ("ada", "eve")}
    of_ada = shared.relay_hub("ada", monkeypatch).serve_tree(folders["ada"], content=True)
    of_eve = shared.relay_hub("eve", monkeypatch).serve_tree(folders["eve"], content=True, visibility="public")
    assert of_ada.key.partition("~")[2] == of_eve.key.partition("~")[2]
    assert shared.fetch(f"{of_ada}0.png").status == 404
    assert is_read(shared.fetch(f"{of_eve}0.png"))
    of_eve.revoke()
    assert is_read(shared.fetch(f"{of_ada}0.png", "ada"))


def test_a_user_publishes_many_trees_at_once(shared: SharedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = shared.relay_hub("ada", monkeypatch)
    folders = [make_tiles(shared.home("ada") / f"parallel-{number}-{time.monotonic_ns()}") for number in range(8)]
    for number, folder in enumerate(folders):
        (folder / "number").write_text(str(number))
    with ThreadPoolExecutor(8) as threads:
        urls = list(threads.map(lambda folder: hub.serve_tree(folder, content=True), folders))
    assert [shared.fetch(f"{url}number", "ada").body for url in urls] == [b"%d" % number for number in range(8)]


def test_a_snapshot_is_served_when_the_original_changes(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shared.home("ada") / "kept"
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles, content=True, snapshot=kept)
    (tiles / "0.png").unlink()
    assert is_read(shared.fetch(f"{url}0.png", "ada"))


def test_a_manifest_that_is_none_is_refused(shared: SharedHub, tiles: Path) -> None:
    root = quote(str(tiles))
    signature, digest = bytes(32), blake3(DATA).digest()
    for body in (
        b"../../eve/secret\0" + signature + digest,
        b"/etc/passwd\0" + signature + digest,
        b"b\0" + signature + digest + b"a\0" + signature + digest,
        b"0.png\0" + signature,
        b"x" * 10_000,
        b"0.png\0" + signature + digest,
    ):
        request = urllib.request.Request(
            f"{shared.service_url}wwtkdr/_api/manifests/{'0' * 64}?root={root}",
            data=body,
            headers={"Authorization": f"token {shared.tokens['ada']}"},
            method="PUT",
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        with refused.value as error:
            assert error.code == 400
            assert "manifest" in json.loads(error.read())["error"]
    # What is not there takes no place.
    nowhere = f"{shared.service_url}wwtkdr/_api/manifests/{'0' * 64}?root={quote(str(shared.home('ada') / 'nowhere'))}"
    request = urllib.request.Request(
        nowhere, data=b"", headers={"Authorization": f"token {shared.tokens['ada']}"}, method="PUT"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as error:
        assert (error.code, "there is no such folder" in error.read().decode()) == (403, True)


# --- both at once, and the command -----------------------------------------------------------------------------------


def test_a_users_own_relay_lives_beside_the_service(shared: SharedHub, kernels: dict[str, Kernel]) -> None:
    folder = make_tiles(shared.home("ada") / "own")
    code = f"import hub; print(hub.JupyterRelayHub(service='').serve_tree({str(folder)!r}))"
    url = kernels["ada"].run(code).strip()
    assert url.startswith("/user/ada/wwtkdr/")
    assert is_read(shared.fetch(f"{url}0.png", "ada"))
    assert shared.fetch(f"{url}0.png", "bob").status in (302, 403)


def test_pywwt_stays_with_the_users_own_relay(shared: SharedHub, kernels: dict[str, Kernel]) -> None:
    code = (
        "import hub.pywwt; hub.pywwt.enable(); import pywwt.jupyter_relay as relay; "
        "print(relay.get_relay_hub().get_static_files_url())"
    )
    url = kernels["ada"].run(code).strip()
    assert url.startswith("/user/ada/wwtkdr/pywwt_static")
    assert shared.fetch(f"{url}research/index.html", "ada").status == 200


def test_the_command_publishes_lists_and_revokes_there(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KDR_")},
        "KDR_SERVICE_URL": shared.service_url,
        "JUPYTERHUB_API_TOKEN": shared.tokens["ada"],
    }

    def kdr(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kdr_wsgi", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    url = kdr("publish", str(tiles), "--key", "cli", "--visibility", "user:bob", "--visibility", "group:astro").stdout
    assert url == "/services/kdr/wwtkdr/ada~cli/\n"
    assert is_read(shared.fetch(f"{url.strip()}0.png", "bob"))
    listed = json.loads(kdr("list", "--json").stdout)
    (found,) = (each for each in listed if each["key"] == "ada~cli")
    assert (found["partial_url"], found["visibility"]) == (url.strip(), ["user:bob", "group:astro"])
    assert "ada~cli  tree  user:bob,group:astro  when revoked" in kdr("list").stdout
    # Where the hub tells its address, a browser that is known here opens it.
    assert f"open there: {url.strip()}0.png\n" in kdr("open", "ada~cl", "0.png", "--print").stderr
    environment["JUPYTERHUB_PUBLIC_URL"] = "http://hub.example:8000/user/ada/"
    assert kdr("open", "ada~cl", "0.png", "--print").stdout == f"http://hub.example:8000{url.strip()}0.png\n"
    assert "lets you publish" in kdr("doctor").stdout
    assert kdr("revoke", "ada~cli").returncode == 0
    again = kdr("revoke", "ada~cli")
    assert (again.returncode, again.stderr.count("is not registered")) == (1, 1)


def test_a_service_that_is_down_is_told_of_within_five_seconds(
    tiles: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a-token")
    with socket.socket() as silent:
        # It takes connections, and says nothing.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port, reason in ((free_port(), "refused"), (silent.getsockname()[1], "timed out")):
            hub = JupyterRelayHub(service=f"http://127.0.0.1:{port}/services/kdr/")
            begun = time.monotonic()
            with pytest.raises(ServiceUnreachable, match=reason) as told:
                hub.serve_tree(tiles)
            assert time.monotonic() - begun < 5
            assert "To publish through your own Jupyter server" in str(told.value)


# --- in a browser ----------------------------------------------------------------------------------------------------


def test_a_browser_that_is_not_logged_in_comes_back_to_the_file(
    shared: SharedHub, browser: ChromiumBrowser, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiles / "page.html").write_text("<!doctype html><title>hers</title><p id=text>of ada's")
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles, visibility="users")
    page = browser.new_context().new_page()
    page.goto(f"{shared.origin}{url}page.html#text")
    assert "/hub/login" in page.url
    log_in(page, "bob")
    page.wait_for_url(f"**{url}page.html*")
    assert page.inner_text("#text") == "of ada's"
    page.context.close()


#: What a hostile page tries with the login of whoever looks at it; what it gets is in its title.
HOSTILE = """<!doctype html><title>waiting</title><script>
const results = [];
const attempt = async (name, url, options) => {
  try {
    const answer = await fetch(url, {credentials: "include", ...options});
    results.push(`${name}: ${answer.status} ${(await answer.text()).includes("SECRET")}`);
  } catch (error) { results.push(`${name}: stopped`); }
};
(async () => {
  await attempt("file", "%(file)s");
  await attempt("hub", "/hub/api/user");
  await attempt("api", "/services/kdr/wwtkdr/_api/registrations");
  try { results.push(`cookie: ${document.cookie}`); } catch (error) { results.push("cookie: stopped"); }
  try { localStorage.setItem("a", "b"); results.push("storage: open"); }
  catch (error) { results.push("storage: stopped"); }
  try { navigator.serviceWorker.register("worker.js").then(() => {}, () => {}); } catch (error) {}
  results.push(`origin: ${self.origin}`);
  document.title = results.join("; ");
})();
</script>"""


def test_a_hostile_page_gets_nothing_with_the_login_of_who_looks_at_it(
    shared: SharedHub, browser: ChromiumBrowser, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiles / "secret.txt").write_text("SECRET")
    secret = f"{shared.relay_hub('ada', monkeypatch).serve_tree(tiles)}secret.txt"
    hostile = shared.home("eve") / f"pages-{time.monotonic_ns()}"
    hostile.mkdir()
    (hostile / "page.html").write_text(HOSTILE % {"file": secret})
    (hostile / "worker.js").write_text("")
    url = shared.relay_hub("eve", monkeypatch).serve_tree(hostile, visibility="users")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{shared.origin}{secret}")
    log_in(page, "ada")
    page.wait_for_url(f"**{secret}")
    assert page.inner_text("body") == "SECRET"
    page.goto(f"{shared.origin}{url}page.html")
    told = told_by(page)
    assert told["file"] in ("stopped", "404 false")
    assert told["hub"] in ("stopped", "403 false", "404 false")
    assert told["api"] in ("stopped", "401 false")
    assert told["cookie"] == "stopped"
    assert told["storage"] == "stopped"
    assert told["origin"] == "null"
    context.close()


# --- what an administrator sees and does -----------------------------------------------------------------------------


def test_administrators_see_what_is_going_on_and_others_do_not(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles)
    assert is_read(shared.fetch(f"{url}0.png", "ada"))
    status, metrics = "/services/kdr/wwtkdr/_status", "/services/kdr/wwtkdr/_metrics"
    page = Browser(shared.origin).log_in("root", status)
    assert (page.status, b'<tr><th scope="row">ada<td class="number">' in page.body) == (200, True)
    told = json.loads(shared.fetch(f"{status}?format=json", "root").body)
    counts = {each["user"]: each["count"] for each in told["service"]["registrations"]["by_user"]}
    assert counts["ada"] == len(shared.ask_service("GET", "registrations", "ada")[1]["registrations"])
    assert told["service"]["requests"] > 0
    assert b'kdr_requests_total{method="GET",status="200"}' in shared.fetch(metrics, "root").body
    assert shared.fetch(metrics, "ada").status == 403
    assert Browser(shared.origin).log_in("ada", metrics).status == 404
    own = Browser(shared.origin).log_in("ada", status)
    assert (own.status, str(tiles).encode() in own.body, b"The whole service" in own.body) == (200, True, False)
    for path in (status, metrics):
        assert shared.fetch(path).status == 401


def test_the_access_log_says_who_and_what_and_not_with_which_token(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles)
    shared.fetch(f"{url}0.png?token={shared.tokens['ada']}", "ada")
    wait_until(lambda: any(line["path"] == f"{url}0.png" for line in logged(shared)), "nothing is logged")
    (line,) = (line for line in logged(shared) if line["path"] == f"{url}0.png")
    assert (line["method"], line["status"], line["bytes"], line["user"]) == ("GET", 200, len(DATA), "ada")
    of_the_service = [line for line in shared.log.read_text().splitlines() if "ConfigProxy" not in line]
    assert not any(shared.tokens["ada"] in line for line in of_the_service)


def test_the_hub_may_be_down_for_as_long_as_a_login_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 4
    with shared_hub(tmp_path, environment={"KDR_LOGIN_SECONDS": str(seconds)}) as running:
        folder = make_tiles(running.home("ada") / "tiles")
        hub = running.relay_hub("ada", monkeypatch)
        private, public = hub.serve_tree(folder), hub.serve_tree(folder, "open", visibility="public")
        assert is_read(running.fetch(f"{private}0.png", "ada"))
        asked = time.monotonic()
        # It does not answer, as one that is busy or ill.
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            while time.monotonic() < asked + seconds - 1:
                assert is_read(running.fetch(f"{private}0.png", "ada"))
                time.sleep(0.2)
            time.sleep(2)
            answer = running.fetch(f"{private}0.png", "ada")
            assert (answer.status, answer["Retry-After"]) == (503, "5")
            assert is_read(running.fetch(f"{public}0.png", "ada"))
            with pytest.raises(ServiceUnreachable):
                hub.serve_tree(folder)
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
        wait_until(lambda: is_read(running.fetch(f"{private}0.png", "ada")), "it does not recover")


LIMITED = {"KDR_USER_REGISTRATIONS": "3", "KDR_USER_MANIFEST_BYTES": "1000"}


def test_each_user_has_limits_and_is_told_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shared_hub(tmp_path, environment=LIMITED) as running:
        folder = make_tiles(running.home("ada") / "tiles")
        hub = running.relay_hub("ada", monkeypatch)
        urls = [hub.serve_tree(folder, f"key{number}") for number in range(3)]
        with pytest.raises(LimitReached, match="you have 3 registrations, and may have 3"):
            hub.serve_tree(folder, "key3")
        hub.serve_tree(folder, "key0")  # The same again is not one more.
        urls[0].revoke()
        hub.serve_tree(folder, "key3")
        # Others are not touched by that.
        running.relay_hub("bob", monkeypatch).serve_tree(make_tiles(running.home("bob") / "tiles"))
        for number in range(20):
            (folder / f"{number}.png").write_bytes(b"%d" % number)
        with pytest.raises(LimitReached, match="manifests of your content keys"):
            running.relay_hub("ada", monkeypatch).serve_tree(folder, content=True)
        assert not [*(running.folder / "kdr-service").rglob("*.tmp")]


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    proxy = find_proxy()
    arguments = [
        f"--JupyterHub.bind_url=http://127.0.0.1:{free_port()}",
        f"--JupyterHub.hub_port={free_port()}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}",
        f"--ConfigurableHTTPProxy.command={proxy}",
    ]
    port = int(arguments[0].rpartition(":")[2])
    with hub_process(tmp_path, "-f", str(EXAMPLE), *arguments) as (process, _, log):
        browser = Browser(f"http://127.0.0.1:{port}")

        def is_there() -> bool:
            assert process.poll() is None, log.read_text()
            with suppress(OSError):
                return b"kdr-wsgi" in browser.open("/services/kdr/wwtkdr/_probe").body
            return False

        wait_until(is_there, f"it does not start; see {log}", 60)
        # Its own registrations are asked for with a token alone; a page leads to the login and back.
        assert browser.log_in("ada", "/services/kdr/wwtkdr/ada~nothing/").status == 404
        assert (tmp_path / "kdr-service" / "registry.sqlite").exists()


EXTERNAL = """
service.pop("command")
service.pop("environment")
service["api_token"] = "the-token-of-the-service"
"""


def test_a_service_that_somebody_else_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        (tmp_path / "homes" / "ada").mkdir(parents=True)
        port, hub_port = free_port(), free_port()
        environment = {
            **os.environ,
            "JUPYTERHUB_SERVICE_NAME": "kdr",
            "JUPYTERHUB_SERVICE_PREFIX": "/services/kdr/",
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub_port}/hub/api",
            "JUPYTERHUB_API_TOKEN": "the-token-of-the-service",
            "KDR_REGISTRY": str(tmp_path / "kdr-service" / "registry.sqlite"),
            "KDR_ROOTS": f"{tmp_path}/homes/{{username}}",
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "python:kdr_wsgi.gunicorn_conf", "kdr_wsgi:create_app()"]
        process = subprocess.Popen(command, env=environment)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        wait_for_port(port, process)
        more = f"{EXTERNAL}\nservice['url'] = 'http://127.0.0.1:{port}'\nc.JupyterHub.hub_port = {hub_port}\n"
        running = stack.enter_context(shared_hub(tmp_path, more=more))
        running.service_port = port
        folder = make_tiles(running.home("ada") / "tiles")
        url = running.relay_hub("ada", monkeypatch).serve_tree(folder)
        assert is_read(running.fetch(f"{url}0.png", "ada"))
        assert running.fetch(f"{url}0.png", "bob").status == 404
        page = Browser(running.origin).log_in("ada", f"{url}0.png")
        assert page.body == DATA or b"Authorize" in page.body


def log_in(page: Page, name: str) -> None:
    """Fill in the hub's login."""
    page.fill("#username_input", name)
    page.fill("#password_input", "anything")
    page.click("#login_submit")


def told_by(page: Page) -> dict[str, str]:
    """Return what the hostile page has got."""
    page.wait_for_function("document.title != 'waiting'")
    return dict(part.split(": ", 1) for part in page.title().split("; "))


def test_with_a_host_of_its_own_the_owners_pages_are_trusted_and_nobody_elses(
    tmp_path: Path, browser: ChromiumBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_hub(tmp_path, domain=DOMAIN) as running:
        secret = make_tiles(running.home("ada") / "tiles")
        (secret / "secret.txt").write_text("SECRET")
        (secret / "page.html").write_text(HOSTILE % {"file": "secret.txt"})
        of_ada = running.relay_hub("ada", monkeypatch).serve_tree(secret, trusted=True)
        assert of_ada.startswith(f"https://{running.host}/services/kdr/wwtkdr/ada~")
        hostile = running.home("eve") / "pages"
        hostile.mkdir()
        (hostile / "page.html").write_text(HOSTILE % {"file": f"{of_ada}secret.txt"})
        of_eve = running.relay_hub("eve", monkeypatch).serve_tree(hostile, trusted=True, visibility="public")
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"{of_ada}page.html")
        log_in(page, "ada")
        page.wait_for_url(f"{of_ada}page.html")
        assert told_by(page)["file"] == "200 true"
        # Another host of the hub, eve's server say, sets cookies for all hosts below the hub's; none of them counts.
        for name in ("service-kdr", "__Host-service-kdr"):
            cookie = f"{name}={running.tokens['eve']}; Domain={DOMAIN}; Path=/services/kdr/wwtkdr/{of_eve.key}; Secure"
            page.goto(f"https://eve.{DOMAIN}:{running.port}/hub/login")
            page.evaluate("cookie => { document.cookie = cookie }", cookie)
        page.goto(f"{of_eve}page.html")
        told = told_by(page)
        assert told["file"] in ("stopped", "404 false")
        assert (told["cookie"], told["origin"]) == ("stopped", "null")
        context.close()


def test_a_notebook_of_somebody_who_is_logged_in_embeds_what_was_never_opened(
    shared: SharedHub, browser: ChromiumBrowser, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    (tiles / "pixel.png").write_bytes(b64decode(pixel))
    (tiles / "page.html").write_text("<!doctype html><title>embedded</title>")
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{shared.origin}/hub/home")
    log_in(page, "ada")
    page.wait_for_url("**/hub/home")
    # Many at once, as a viewer asks for tiles.
    images = page.evaluate(
        """url => Promise.all([...Array(12).keys()].map(number => new Promise(resolve => {
          const image = new Image();
          image.onload = () => resolve(image.naturalWidth);
          image.onerror = () => resolve(0);
          image.src = `${url}pixel.png?${number}`;
        })))""",
        url,
    )
    assert images == [1] * 12
    context.clear_cookies(name="service-kdr")
    assert page.evaluate(
        "url => fetch(`${url}0.png`).then(answer => answer.blob()).then(blob => blob.size)", url
    ) == len(DATA)
    context.clear_cookies(name="service-kdr")
    page.evaluate("url => { document.body.innerHTML = `<iframe src='${url}page.html'></iframe>` }", url)
    frame = page.wait_for_selector("iframe")
    assert frame is not None
    content = frame.content_frame()
    assert content is not None
    content.wait_for_function("document.title == 'embedded'")
    context.close()


def test_what_a_browser_uses_publishes_nothing(shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{shared.relay_hub('ada', monkeypatch).serve_tree(tiles)}0.png"
    browser = Browser(shared.origin)
    browser.log_in("ada", address)
    cookies = SimpleCookie(browser.cookies(address)["Cookie"])
    token = cookies["service-kdr"].value
    assert is_read(shared.fetch(address, headers={"Authorization": f"token {token}"}))
    assert shared.ask_service("GET", "registrations", token=token)[0] == 401


def test_one_users_word_on_a_shared_folder_changes_nothing_for_another(
    shared: SharedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiles(shared.folder / "shared" / f"poison-{time.monotonic_ns()}")
    (folder / "x.csv").write_bytes(b"promised")
    url = shared.relay_hub("ada", monkeypatch).serve_tree(folder, content=True)
    assert shared.fetch(f"{url}x.csv", "ada").body == b"promised"
    (folder / "x.csv").write_bytes(b"hostile!")
    # Read, and so kept, by another's registration of the same folder, with what looks like the promise for a name.
    told = {
        "kind": "tree",
        "root": str(folder),
        "place": str(folder),
        "key": "x",
        "visibility": "private",
        "trusted": False,
        "headers": {},
        "content": "",
        "signature": "",
        "is_kept": False,
        "extension": "",
    }
    name = quote(blake3(b"promised").digest() + b"text/csv; charset=utf-8")
    assert shared.ask_service("POST", "registrations", "eve", {**told, "name": name})[0] == 400
    assert shared.ask_service("POST", "registrations", "eve", {**told, "name": ""})[0] == 201
    time.sleep(0.1)
    assert shared.fetch("/services/kdr/wwtkdr/eve~x/x.csv", "eve").body == b"hostile!"
    assert shared.fetch(f"{url}x.csv", "ada").status == 410


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Accel-Redirect": "/internal"},
        {"NEL": "{}"},
        {"Vary": "X"},
        {"Cache-Control": "private, public, max-age=60"},
        {"Cache-Control": "max-age=60"},
        {"Strict-Transport-Security": "max-age=1"},
        {"Access-Control-Allow-Credentials": "true"},
    ],
)
def test_headers_that_speak_to_others_than_the_reader_of_the_file_are_refused(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    hub = shared.relay_hub("ada", monkeypatch)
    with pytest.raises((ServiceRefused, InvalidOption), match="headers"):
        hub.serve_tree(tiles, headers=headers)
    allowed = {"Content-Disposition": "attachment", "Cache-Control": "private, max-age=60"}
    url = hub.serve_tree(tiles, headers=allowed)
    answer = shared.fetch(f"{url}0.png", "ada")
    assert {name: answer[name] for name in allowed} == allowed


def test_a_cookie_that_is_no_token_hurts_nobody(
    shared: SharedHub, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared.relay_hub("ada", monkeypatch).serve_tree(tiles)
    for cookie in ('service-kdr="a\\012b"', "service-kdr=" + "x" * 3000, 'service-kdr="\\000"'):
        assert shared.fetch(f"{url}0.png", headers={"Cookie": cookie}).status == 404
    _, fresh = shared.ask("POST", "users/ada/tokens", "ada", {})
    assert is_read(shared.fetch(f"{url}0.png", headers={"Authorization": f"token {fresh['token']}"}))
