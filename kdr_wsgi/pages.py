"""The pages of the server's own: what a browser may do with them."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable

#: An inline script, or style, and what is in it.
_INLINE = re.compile(r"<(script|style)\b([^>]*)>(.*?)</\1>", re.DOTALL)

#: What Jinja would change, so that the hash would be another one.
_OF_JINJA = re.compile(r"\{[{%#]")


def page_policy(scripts: Iterable[str], styles: Iterable[str]) -> tuple[str, str]:
    """Return the header that lets a page run and show these, and nothing else.

    Scripts and styles stand in the page itself and are known by their hashes
    (https://www.w3.org/TR/CSP3/), so that nothing that a name smuggles in
    runs. The page asks its own server alone, and sends no form.

    Parameters
    ----------
    scripts, styles : iterable of str
        What stands between the tags, to the letter.
    """
    hashes = {"script": _hashes(scripts), "style": _hashes(styles)}
    directives = [
        "default-src 'none'",
        *(f"{kind}-src {' '.join(known)}" for kind, known in hashes.items() if known),
        # Without a script nothing asks.
        *(["connect-src 'self'"] if hashes["script"] else []),
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "Content-Security-Policy", "; ".join(directives)


def template_policy(template: str) -> tuple[str, str]:
    """Return the policy of a page whose template has its scripts and styles; its own server alone may frame it.

    Parameters
    ----------
    template : str
        The text of a Jinja template. Its scripts and styles have nothing for Jinja to fill in.

    Raises
    ------
    ValueError
        They do; or one of them is to be loaded from elsewhere.
    """
    found: dict[str, list[str]] = {"script": [], "style": []}
    for kind, attributes, text in _INLINE.findall(template):
        if "src=" in attributes or _OF_JINJA.search(text):
            raise ValueError(f"a {kind} of this page is not known before the page is made, so that it has no hash")
        found[kind].append(text)
    name, policy = page_policy(found["script"], found["style"])
    return name, f"{policy}; frame-ancestors 'self'"


def _hashes(texts: Iterable[str]) -> list[str]:
    return [f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
