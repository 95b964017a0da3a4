"""The table of modules in docs/architecture.md, from the first sentences of their docstrings."""

from __future__ import annotations

import re
from pathlib import Path

from support.sources import source

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "trio_gw"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules: written by scripts/modules -->\n", "<!-- end of modules -->\n"


def first_sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring; empty if there is none."""
    paragraph = " ".join(source(path).docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z`])", paragraph)[0].replace("|", "\\|")


def table() -> str:
    """Write the table: the top-level modules, then each package with its modules."""
    lines = ["| module | responsibility |", "| --- | --- |"]
    packages = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    for folder in packages:
        name = folder.relative_to(PACKAGE).as_posix()
        lines.append(f"| **{'trio_gw' if name == '.' else name}/** | {_bold(folder)} |")
        for path in sorted(folder.glob("*.py")):
            if path.name != "__init__.py":
                module = path.relative_to(PACKAGE).as_posix()
                lines.append(f"| `{module}` | {first_sentence(path)} |")
    return "\n".join(lines) + "\n"


def _bold(folder: Path) -> str:
    return f"**{first_sentence(folder / '__init__.py').rstrip('.')}**"


def page(text: str) -> str:
    """Return the text of the page with the current table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert before
    assert after
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"
