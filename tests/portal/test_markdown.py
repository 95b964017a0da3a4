"""Descriptions become safe HTML, whatever they hold, in bounded time."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from trio_gw.portal import markdown
from trio_gw.portal.markdown import MOST_TEXT, to_html, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/x.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](blob:https://localhost/1)",
    "[x](vbscript:x)",
    "[x](//evil.example)",
    "[x](/portal/logout)",
    "[x](#main)",
    "[x]: javascript:alert(1)\n\n[x]",
    "<javascript:alert(1)>",
    "<http://a.example/\"onmouseover='alert(1)'>",
    '[x](http://a.example "onmouseover=alert(1)")',
    "<svg/onload=alert(1)>",
    "<iframe src=//evil.example>",
    "<form action=//evil.example><button>x",
    "<style>*{display:none}</style>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "`</code><script>alert(1)</script>`",
    "```x onload=alert(1)\n</code></pre><script>\n```",
    "# <script>\n\n| <b> | x |\n|-|-|\n| <i onclick=x> | y |",
    "<!-- <script> -->",
    "<a href='http://a' class=button id=main name=x>",
    "&lt;script&gt;&#x3c;script&#x3e;",
    "<x[y](http://z.example)>",
]
ATTRIBUTES = {"a": {"href", "rel"}, "ol": {"start"}, "span": {"class"}}
TAGS = markdown._TAGS


class Elements(HTMLParser):
    """All elements of a text, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_active_is_left(text: str) -> None:
    for tag, attributes in Elements(to_html(text)).found:
        assert tag in TAGS
        assert attributes.keys() <= ATTRIBUTES.get(tag, set())
        if (url := attributes.get("href")) is not None:
            assert re.match(r"https?://|mailto:", url)
            assert attributes["rel"] == "noopener noreferrer nofollow"
        assert attributes.get("class", "host") == "host"


def test_each_cleaning_alone_holds_for_scripts() -> None:
    assert "<script" not in markdown._parser.render("<script>alert(1)</script>")
    assert (
        "javascript:" not in markdown._parser.render("[x](javascript:alert(1))").partition("(")[0]
    )


def test_text_links_and_tables() -> None:
    found = to_html("# Title\n\n*a* **b** `c` ~~d~~\n\n- x\n\n[site](https://docs.example/x)")
    assert "<h3>Title</h3>" in found
    assert "<em>a</em> <strong>b</strong> <code>c</code> <s>d</s>" in found
    assert '>site</a> <span class="host">(docs.example)</span>' in found
    assert "<td>1</td>" in to_html("|a|\n|-|\n|1|")


def test_the_host_of_a_link_is_that_of_its_address() -> None:
    found = to_html("[https://bank.example](https://bank.example@evil.example/)")
    assert '<span class="host">(evil.example)</span>' in found


def test_hidden_characters_are_shown() -> None:
    assert to_html("a\u202eb\x07c\u2066d") == "<p>a[U+202E]b[U+0007]c[U+2066]d</p>\n"
    assert visible("\u200f\u200b\ufeffx\n\t\u200d") == "[U+200F][U+200B][U+FEFF]x\n\t\u200d"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "![[" * 7_000,
        "[a](b" * 4_000,
        "*a_" * 6_000,
        "> " * 10_000,
        "`a``b" * 4_000,
        "&#" * 10_000,
        "".join(f"[{number}]: /u\n" for number in range(2_000)),
    ],
)
def test_the_time_is_bounded(text: str) -> None:
    began = time.perf_counter()
    to_html(text)
    assert time.perf_counter() - began < 4


def test_a_long_text_is_cut_and_results_are_kept_within_bounds() -> None:
    assert to_html("x" * 40_000).count("x") == MOST_TEXT
    for number in range(markdown.MOST_KEPT + 10):
        to_html(f"text {number}")
    assert len(markdown._kept) <= markdown.MOST_KEPT
    assert to_html("same") is to_html("same")


def test_a_panic_of_the_library_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # The library panics when it is called with these.
    monkeypatch.setattr(markdown, "_ATTRIBUTES", {"span": {"class"}})
    assert to_html("<panic>").startswith("<p>&lt;panic&gt;")
