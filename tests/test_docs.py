"""What the pages of `docs/` point to exists: golden cases, tests, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
GOLDEN = ROOT / "tests" / "golden"


def citations(text: str) -> list[str]:
    """Find what stands between backticks and looks like a test."""
    quoted = re.findall(r"`([^`\n]+)`", text)
    return [each for each in quoted if re.match(r"golden/|(\w+/)?test_\w+$", each)]


def rows(text: str) -> list[list[str]]:
    """Find the cells of each row of a table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("citation", sorted(set(citations(PAGE.read_text()))))
def test_what_is_cited_exists(citation: str) -> None:
    if citation.startswith("golden/"):
        assert list(GOLDEN.glob(citation.removeprefix("golden/")))
    else:
        assert (ROOT / "tests" / f"{citation}.py").is_file()


def test_every_golden_case_is_cited() -> None:
    patterns = [each.removeprefix("golden/") for each in citations(PAGE.read_text())]
    cited = {path.name for pattern in patterns for path in GOLDEN.glob(pattern)}
    assert {path.name for path in GOLDEN.iterdir() if path.is_dir()} == cited


def test_every_row_is_held_by_something_or_says_why_not() -> None:
    found = rows(PAGE.read_text())
    assert len(found) > 100
    for row in found:
        assert all(row), row
        assert len(row) == 4, row


def test_every_row_of_the_reference_about_deploying_is_a_test() -> None:
    """D1 to D18 (spec: upstream-tests §2): `test_d5_to_d9_…`, `test_d3_d4_…`, `test_d17_…`."""
    found: set[int] = set()
    for path in (ROOT / "tests" / "e2e").glob("test_*.py"):
        for name in re.findall(r"async def test_((?:d\d+_(?:to_)?)+)", path.read_text()):
            for first, last in re.findall(r"d(\d+)_(?:to_d(\d+)_)?", name):
                found |= set(range(int(first), int(last or first) + 1))
    assert found == set(range(1, 19))


PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "scripts").rglob("*.md")]
)


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as links do."""
    heads = [line.strip("# ") for line in page.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
