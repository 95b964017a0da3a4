"""Descriptions in Markdown as safe HTML: `await markdown(services, text)`, in the worker thread.

HTML in the text stays text, images are off, and what comes out is cleaned once more by a list of
allowed elements. Links lead to absolute addresses only, and their host is shown beside them.
Characters that hide or reorder text are made visible. Imported with the first description.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

    from trio_gw.portal.services import PortalServices

MOST_TEXT = 16 << 10  # characters; the rest is cut
MOST_KEPT = 128  # results in the cache

_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "a", "span"),
    *("ul", "ol", "li", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES: dict[str, set[str]] = {"*": set(), "a": {"href"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_ABSOLUTE = re.compile(r"(?:https?://|mailto:)[^\s]+", re.IGNORECASE)
# Controls, and what changes the direction or the place of other characters. The joiners of
# scripts and emoji (U+200C, U+200D) stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)

_kept: OrderedDict[bytes, str] = OrderedDict()
_lock = Lock()


async def markdown(services: PortalServices, text: str) -> Markup:
    """Return Markdown as HTML that templates print as it is; empty for an empty text."""
    if not text.strip():
        return Markup("")
    return Markup(await services.in_thread(lambda: to_html(text)))  # noqa: S704 - cleaned


def visible(text: str) -> str:
    """Show characters that hide, reorder or end text as their code points: `[U+202E]`."""
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def to_html(text: str) -> str:
    """Turn Markdown into HTML that holds no active element, whatever the text is. Blocks."""
    text = text[: MOST_TEXT + 1]
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    with _lock:
        if (found := _kept.get(key)) is not None:
            _kept.move_to_end(key)
            return found
    found = _cleaned(text)
    with _lock:
        _kept[key] = found
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return found


def _cleaned(text: str) -> str:
    if len(text) > MOST_TEXT:
        text = text[:MOST_TEXT] + "…"
    html = _parser.render(visible(text))
    with _NoPanic():
        return nh3.clean(
            html,
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            allowed_classes={"span": {"host"}},
            url_schemes=_SCHEMES,
            link_rel="noopener noreferrer nofollow",
            strip_comments=True,
        )
    return f"<p>{escapeHtml(text)}</p>"


class _NoPanic:
    """Leaves the block when the library panics: that is no `Exception`, and would end the gateway.

    Its class cannot be imported.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and kind.__name__ == "PanicException"


def _is_absolute(url: str) -> bool:
    return _ABSOLUTE.fullmatch(url) is not None


def _heading(
    self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """Write a heading two levels lower: the page has its own `h1` and `h2`."""
    level = min(6, int(tokens[index].tag[1:]) + 2)
    return f"<{'/' if tokens[index].nesting < 0 else ''}h{level}>"


def _link_close(
    self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """Write the host of a link behind it, so that the text cannot pretend another one."""
    depth = 0
    for token in reversed(tokens[:index]):
        depth += token.nesting if token.type in ("link_open", "link_close") else 0
        if depth == 1:
            return f'</a> <span class="host">({escapeHtml(_host(str(token.attrs["href"])))})</span>'
    return "</a>"


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return parts.hostname or parts.path[:80]
    except ValueError:
        return "?"


def _make() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20})
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    parser.validateLink = _is_absolute  # type: ignore[method-assign]
    rules: dict[str, Any] = {
        "heading_open": _heading,
        "heading_close": _heading,
        "link_close": _link_close,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


_parser = _make()
