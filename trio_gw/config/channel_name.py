"""Names of channels, which are patterns of request paths. Called by `asyncapi`.

spec: project-format §5.5, routing §2.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING

from trio_gw.config.convert import MAX_TEXT

if TYPE_CHECKING:
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_PARAMETER = re.compile(r"\{([^{}/]+)\}")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_UNMATCHED = re.compile(r"[^!$%&'()*+,\-./0-9:;=@A-Z_a-z~|\"<>`\u0080-\U0010ffff]")
_ESCAPED = re.compile(r"\{[^{}/]+\}|[\"<>`\u0080-\U0010ffff]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*(.*)", re.DOTALL)


def parameters(name: str) -> frozenset[str]:
    """Return the names of a channel's `{parameters}`."""
    return frozenset(_PARAMETER.findall(name))


def ordered_parameters(name: str) -> list[str]:
    """Return the names of a channel's `{parameters}` in their order, each once."""
    return list(dict.fromkeys(_PARAMETER.findall(name)))


def is_url(name: str) -> bool:
    """Return whether a channel's name is a whole URL."""
    return _URL.fullmatch(name) is not None


def placed(name: str, *, subjects: bool) -> str:
    """Return the path for a name without a leading slash.

    A subject uses the one connection to the URL of the server, and a URL contains a path.
    """
    found = _URL.fullmatch(name)
    if found is not None:
        return found[1] or "/"
    return "/" if subjects else f"/{name}"


def encoded(name: str) -> str:
    """Encode a name as clients send it (RFC 3986 §2.1, WHATWG URL §4.4): `/café` as `/caf%C3%A9`.

    The names of parameters stay unchanged: they are never sent.
    """
    return _ESCAPED.sub(
        lambda found: found[0] if found[0][0] == "{" else urllib.parse.quote(found[0]), name
    )


def check(key: str, name: str, path: Path, findings: Findings) -> bool:
    """Check the key of a channel and its name; return whether it can be a topic.

    An impossible topic is an error, a suspicious one a warning.
    """
    shown = repr(key[:80])
    if len(name) > MAX_TEXT:
        what = f"the channel {shown}… has more than {MAX_TEXT:,} characters"
        findings.error(path, what, "shorten it")
        return False
    if not name.startswith("/"):
        findings.error(
            path,
            f"the channel {shown} does not start with `/`",
            f"write `/{name[:80]}`" if name.isprintable() and name else "begin with `/`",
        )
        return False
    if _BLANK.search(name) or not name.isprintable():
        what = f"the channel {shown} holds white space or a control character"
        findings.error(path, what, "remove it, or write it percent-encoded as clients do")
        return False
    rest = _PARAMETER.sub("", name)
    if "{" in rest or "}" in rest:
        what = f"the channel {shown} has braces that are no parameter"
        findings.error(path, what, "write a parameter as `{name}` within one path segment")
        return False
    odd = _UNMATCHED.search(rest)
    if odd:
        what = f"no request can match the channel {shown}: paths do not hold `{odd[0]}` as such"
        findings.warn(path, what, "write it percent-encoded as clients do")
    if "*" in rest.removesuffix("/*"):
        what = f"`*` in the channel {shown} stands for itself: only `/*` at the end matches more"
        findings.warn(path, what, "use a parameter such as `{name}`, or end with `/*`")
    return True
