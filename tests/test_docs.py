"""The pages agree with the repository: links, files, commands, settings, cited sections."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from support import settings_page
from trio_gw.__main__ import parser
from trio_gw.supervision.background import TaskName

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
    """D1 to D18: `test_d5_to_d9_…`, `test_d3_d4_…`, `test_d17_…`."""
    found: set[int] = set()
    for path in (ROOT / "tests" / "e2e").glob("test_*.py"):
        for name in re.findall(r"async def test_((?:d\d+_(?:to_)?)+)", path.read_text()):
            for first, last in re.findall(r"d(\d+)_(?:to_d(\d+)_)?", name):
                found |= set(range(int(first), int(last or first) + 1))
    assert found == set(range(1, 19))


PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "scripts").rglob("*.md")]
)
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


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


def quotations(text: str) -> list[str]:
    """Find what is quoted as code: the lines of blocks, and what stands between backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return [line for block in blocks for line in block.splitlines()] + inline


PACKAGES = {path.name for path in (ROOT / "trio_gw").iterdir() if path.is_dir()}
TESTS = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
PATH = re.compile(r"\.?\w+(?:/[\w.*{}-]+)+|test_\w+|[\w-]+\.py")
FILES = [
    path
    for folder in ("docs", "scripts", "tests", "trio_gw")
    for path in (ROOT / folder).rglob("*.py")
]


def paths(text: str) -> set[str]:
    """Find the files of this repository that a page names; not those that it shows as a whole."""
    text = re.sub(r"^```\w+\n# \S+\.\w+\n.*?^```$", "", text, flags=re.M | re.S)
    words = (word.strip(",;:()'\"") for line in quotations(text) for word in line.split())
    found = {word for word in words if PATH.fullmatch(word)}
    tops = {".ci", "docs", "scripts", "tests", "trio_gw", "golden"} | PACKAGES | TESTS
    return {word for word in found if "/" not in word or word.split("/")[0] in tops}


def exists(path: str, page: Path) -> bool:
    """Tell whether a name as pages write it is that of a file: with or without `.py`."""
    roots = (ROOT, ROOT / "trio_gw", ROOT / "tests", page.parent)
    if "/" not in path:
        names = {path, f"{path}.py"}
        return any(file.name in names for file in FILES) or (ROOT / path).is_file()
    return any(list(root.glob(name)) for root in roots for name in (path, f"{path}.py"))


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    assert [path for path in sorted(paths(page.read_text())) if not exists(path, page)] == []


def test_a_file_that_is_gone_is_found() -> None:
    assert paths("see `relay/lane` and `tests/gone.py`, `a/b`\n```sh\nscripts/x --y\n```\n") == {
        "relay/lane",
        "tests/gone.py",
        "scripts/x",
    }
    assert exists("relay/lane", PAGE)
    assert not exists("tests/gone.py", PAGE)
    assert not exists("test_gone", PAGE)


def commands() -> dict[str, set[str]]:
    """Map each command of `trio-gw` to its options."""
    subparsers = next(
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: {option for action in command._actions for option in action.option_strings}
        for name, command in subparsers.choices.items()
    }


def unknown_commands(text: str, known: dict[str, set[str]]) -> list[str]:
    """List the commands and options of `trio-gw` that a page uses and that are not there."""
    wrong = []
    for line in quotations(text):
        for name, rest in re.findall(r"(?:^|[\s/])trio-gw ([a-z][a-z-]*)([^|#>]*)", line):
            if name not in known:
                wrong.append(f"trio-gw {name}")
                continue
            options = set(re.findall(r"(?:^|[\s\[])(--?[a-z][a-z-]*)", rest))
            wrong += [f"trio-gw {name} {one}" for one in sorted(options - known[name])]
    return wrong


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_shown_exist(page: Path) -> None:
    assert unknown_commands(page.read_text(), commands()) == []


def test_every_command_is_listed() -> None:
    page = (ROOT / "docs" / "running.md").read_text()
    assert [name for name in commands() if f"`trio-gw {name}" not in page] == []


def test_every_script_is_listed() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    found = (path for path in (ROOT / "scripts").iterdir() if not path.suffix)
    scripts = {path.name for path in found} - {"__pycache__"}
    assert [name for name in sorted(scripts) if f"`scripts/{name}`" not in page] == []


def test_a_command_that_is_gone_is_found() -> None:
    page = "`trio-gw run --port 1` and\n```sh\n.venv/bin/trio-gw fly\ntrio-gw deploy --ca x\n```\n"
    assert unknown_commands(page, commands()) == ["trio-gw fly", "trio-gw run --port"]


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_installed_from_a_name_that_others_can_register(page: Path) -> None:
    installed = [line for line in quotations(page.read_text()) if "pip install" in line]
    assert [line for line in installed if re.search(r"[ '\"]trio-gw\b", line)] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 1300


def test_the_page_of_settings_is_that_of_the_code() -> None:
    """Run `scripts/settings` after a change of a setting."""
    written = [key for section in settings_page.meanings()["section"] for key in section["keys"]]
    assert sorted(written) == sorted(settings_page.keys())
    assert settings_page.PAGE.read_text() == settings_page.page()


def test_the_page_tells_which_settings_sighup_applies() -> None:
    applied = set(filter(settings_page.on_sighup, settings_page.keys()))
    assert {key.partition(".")[0].removesuffix("[]") for key in applied} == {"git", "log", "deny"}
    assert "log.level" in applied
    assert "git.folder" not in applied


SPEC = ROOT / "docs" / "spec"
SHEETS = sorted(path.stem for path in SPEC.glob("*.md"))
MARK = re.compile(rf"\b({'|'.join(SHEETS)}) ((?:§[\d.]+\d|§\d)(?:(?:,| and| to) §[\d.]*\d)*)")


def marks(text: str) -> set[tuple[str, str]]:
    """Find the sections that comments cite: `spec: routing §9`, `routing §2 and §3`."""
    text = re.sub(r"\s*\n\s*#?\s*", " ", text)
    return {
        (sheet, number)
        for sheet, numbers in MARK.findall(text)
        for number in re.findall(r"§([\d.]+)", numbers)
    }


def sections(sheet: str) -> set[str]:
    """Name the numbered headings of a page."""
    return set(re.findall(r"^#+ ([\d.]*\d)\.? ", (SPEC / f"{sheet}.md").read_text(), re.MULTILINE))


SOURCES = sorted([*(ROOT / "trio_gw").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])


def test_marks_in_the_code_lead_to_a_section() -> None:
    cited = {mark for path in SOURCES for mark in marks(path.read_text())}
    assert len(cited) > 30
    assert {(sheet, number) for sheet, number in cited if number not in sections(sheet)} == set()


def test_a_mark_names_its_page() -> None:
    for path in SOURCES:
        for what in re.findall(r"\bspec: (\S+)", path.read_text()):
            assert what in SHEETS, f"{path}: {what}"


RULES = {"P": "project-format", "R": "routing", "S": "security", "F": "frames"}


def test_rules_of_the_compatibility_page_are_sections() -> None:
    numbers = re.findall(r"^\| ([PRSF])([\d.]+) \|", PAGE.read_text(), re.MULTILINE)
    assert len(numbers) > 100
    lost = {(kind, number) for kind, number in numbers if number not in sections(RULES[kind])}
    assert lost == set()


def test_the_table_of_background_parts_has_all() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    table = text.partition("| part | task |")[2].partition("\n\n")[0]
    names = [name for row in rows(table) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(names) == sorted(part.value for part in TaskName)
