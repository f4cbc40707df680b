"""What a page's policy lets run."""

from __future__ import annotations

import base64
import hashlib

import pytest

from kdr_wsgi.pages import template_policy


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_a_page_runs_its_own_script_and_shows_its_own_style_alone() -> None:
    name, policy = template_policy('<style>\n a { b: c }</style><p>{{ x }}<script type="module">one()</script>')
    assert name == "Content-Security-Policy"
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": hash_of("one()"),
        "style-src": hash_of("\n a { b: c }"),
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }


def test_a_page_without_a_script_runs_none_and_asks_for_nothing() -> None:
    _, policy = template_policy("<p>{{ x }}")
    for directive in ("script-src", "style-src", "connect-src"):
        assert directive not in policy


@pytest.mark.parametrize(
    "template",
    [
        "<script>let x = {{ x }}</script>",
        "<script>{% if x %}a(){% endif %}</script>",
        "<style>a {# b #}</style>",
        '<script src="elsewhere.js"></script>',
    ],
)
def test_what_has_no_hash_before_the_page_is_made_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="no hash"):
        template_policy(template)
