from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdr_wsgi.objects.rules import StoreFileError, StoreRules, read_store_file
from kdr_wsgi.settings import SettingError, read_settings
from tests.stores import write_rules

OPTIONS = {"secret_access_key": "${KEY}", "endpoint": "https://s3.example.org"}


def read(path: Path, *rules: dict[str, Any], **environment: str) -> StoreRules:
    return read_store_file(write_rules(path / "stores.json", *rules), {"KEY": "from outside", **environment})


def test_secrets_come_from_the_environment_and_show_nowhere(tmp_path: Path) -> None:
    rules = read(tmp_path, {"prefix": "s3://survey/public/", "options": OPTIONS})
    place = rules.find(b"s3://survey/public/tiles", "")
    assert place is not None
    assert place.rule.options["secret_access_key"] == "from outside"
    assert (place.bucket, place.key) == ("survey", "public/tiles")
    assert "from outside" not in repr(place)


def test_the_longest_prefix_counts_and_only_whole_segments(tmp_path: Path) -> None:
    rules = read(tmp_path, {"prefix": "s3://survey/"}, {"prefix": "s3://survey/fast", "retries": 0})
    found = {root: rules.find(root, "") for root in (b"s3://survey", b"s3://survey/fast/x", b"s3://survey/faster")}
    assert [place and place.rule.retries for place in found.values()] == [2, 0, 2]
    assert rules.find(b"s3://survey2/x", "") is None
    assert rules.find(b"gs://survey/x", "") is None


@pytest.mark.parametrize("owner", ["", ".", "..", "a/b", "a\0", "a\n"])
def test_a_name_that_is_no_segment_has_no_prefix(tmp_path: Path, owner: str) -> None:
    rules = read(tmp_path, {"prefix": "s3://homes/users/{username}/public"})
    assert rules.seen_by(owner) == []
    assert rules.find(b"s3://homes/users/ada/public", owner) is None


def test_each_user_has_a_prefix_of_their_own(tmp_path: Path) -> None:
    rules = read(tmp_path, {"prefix": "s3://homes/users/{username}"}, {"prefix": "s3://survey/"})
    assert rules.seen_by("ada") == ["s3://homes/users/ada/", "s3://survey/"]
    assert rules.find(b"s3://homes/users/ada/x", "ada") is not None
    assert rules.find(b"s3://homes/users/ada/x", "bob") is None
    assert rules.find(b"s3://homes/users/adam/x", "ada") is None
    assert rules.find(b"s3://homes/users/{username}/x", "ada") is None


def test_only_hosts_of_the_store_are_asked(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        {"prefix": "s3://one/", "options": OPTIONS},
        {"prefix": "s3://two/", "hosts": ["169.254.169.254"]},
        {"prefix": "gs://three/"},
    )
    hosts = [
        place.rule.allowed_hosts
        for root in (b"s3://one", b"s3://two", b"gs://three")
        if (place := rules.find(root, ""))
    ]
    assert hosts == [
        ("s3.example.org",),
        ("amazonaws.com", "amazonaws.com.cn", "169.254.169.254"),
        ("googleapis.com",),
    ]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({}, "with a prefix"),
        ({"prefix": "http://survey/"}, "begins with none of"),
        ({"prefix": "s3://survey/../x"}, "empty segment"),
        ({"prefix": "s3://{username}/"}, "whole segment behind the bucket"),
        ({"prefix": "s3://survey/x{username}"}, "whole segment"),
        ({"prefix": "s3://survey/{user}"}, "in braces"),
        ({"prefix": "s3://survey/", "redirects": True}, "'redirects' is not known"),
        ({"prefix": "s3://survey/", "redirect": 1}, "neither true nor false"),
        ({"prefix": "s3://survey/", "retries": -1}, "retries is no whole number"),
        ({"prefix": "s3://survey/", "fresh_seconds": "1"}, "fresh_seconds is no number"),
        ({"prefix": "s3://survey/", "options": []}, "no object of texts"),
        ({"prefix": "s3://survey/", "hosts": "a"}, "no list of names"),
        ({"prefix": "s3://survey/", "options": {"token": "${NOT_THERE}"}}, r"token is to come from \$\{NOT_THERE\}"),
    ],
)
def test_a_rule_that_cannot_be_used_says_why(tmp_path: Path, rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StoreFileError, match=sentence):
        read(tmp_path, rule)


def test_a_file_that_others_change_or_whose_secrets_they_read_is_refused(tmp_path: Path) -> None:
    path = write_rules(tmp_path / "s.json", {"prefix": "s3://survey/", "options": {"secret_access_key": "here"}})
    path.chmod(0o644)
    with pytest.raises(StoreFileError, match="chmod 600"):
        read_store_file(path, {})
    path.chmod(0o600)
    assert read_store_file(path, {})
    path.chmod(0o622)
    with pytest.raises(StoreFileError, match="chmod go-w"):
        read_store_file(path, {})
    path = write_rules(tmp_path / "s.json", {"prefix": "s3://survey/", "options": OPTIONS})
    path.chmod(0o644)
    assert read_store_file(path, {"KEY": "x"})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"stores": []}', '{"stores": {}}', '{"stores": [1]}', '{"a": []}'])
def test_a_file_that_is_none_is_a_setting_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stores.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingError, match=r"KDR_STORES cannot be used: .*stores\.json"):
        read_settings({"KDR_REGISTRY": str(tmp_path / "r.sqlite"), "KDR_STORES": str(path)})


def test_a_prefix_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(StoreFileError, match="twice"):
        read(tmp_path, {"prefix": "s3://survey/a"}, {"prefix": "s3://survey/a/"})


def test_the_settings_need_no_file(tmp_path: Path) -> None:
    assert not read_settings({"KDR_REGISTRY": str(tmp_path / "r.sqlite")}).stores
    assert json.loads(write_rules(tmp_path / "s.json").read_text()) == {"stores": []}


def test_the_file_of_the_documentation_can_be_used(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "object-stores.md").read_text()
    text = page.partition("```json\n")[2].partition("```")[0]
    path = tmp_path / "stores.json"
    path.write_text(text)
    path.chmod(0o644)
    rules = read_store_file(path, {"SURVEY_KEY_ID": "a", "SURVEY_SECRET": "b"})
    assert rules.seen_by("ada") == ["s3://survey/public/", "s3://homes/users/ada/", "gs://open-data/"]
