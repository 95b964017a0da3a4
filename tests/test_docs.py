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


@pytest.mark.parametrize("name", ["D1", "D2", "D5", "D10", "D11", "D12", "D13", "D14", "D16"])
def test_rows_of_the_reference_that_concern_projects_are_tests(name: str) -> None:
    text = (ROOT / "tests" / "e2e" / "test_deploy_cases.py").read_text()
    assert re.search(rf"async def test_{name.lower()}_", text)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
