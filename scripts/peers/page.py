"""The table of docs/peers.md: results of the cases, and the versions of their packages."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from cases import CASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from case import Case

PAGE = Path(__file__).parent.parent.parent / "docs" / "peers.md"


@dataclass(frozen=True)
class Outcome:
    """The result of a case: it took `seconds`; `fault` is empty if it holds."""

    case: Case
    seconds: float
    fault: str


def version(installed: Path, peer: str) -> str:
    """Return the name and version of `registry:package`."""
    registry, _, name = peer.partition(":")
    if registry == "npm":
        found = json.loads((installed / "node_modules" / name / "package.json").read_text())
        return f"{name} {found['version']}"
    if registry == "pypi":
        (packages,) = installed.glob("venv/lib/python*/site-packages")
        normal = re.sub(r"[-_.]+", "-", name).lower()
        for each in distributions(path=[str(packages)]):
            if re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower() == normal:
                return f"{name} {each.version}"
    command = {
        "node": ["node", "--version"],
        "mosquitto": ["mosquitto", "-h"],
        "haproxy": ["haproxy", "-v"],
        "nginx": ["nginx", "-v"],
        "openssl": ["openssl", "version"],
    }["node" if registry == "node" else name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    assert number is not None, command
    return f"Node {number[0]} ({name})" if registry == "node" else f"{name} {number[0]}"


def table(installed: Path, outcomes: Sequence[Outcome]) -> str:
    """Write the outcomes as a table, in the order of the cases."""
    lines = ["| peers | what it proves | needed | result |", "| --- | --- | --- | --- |"]
    for outcome in sorted(outcomes, key=lambda each: CASES.index(each.case)):
        case = outcome.case
        needed = [line for line in (*case.setting.splitlines(), *case.key.splitlines()) if line]
        cells = (
            ", ".join(version(installed, peer) for peer in case.peers),
            case.proves,
            ", ".join(f"`{line}`" for line in needed) or "none",
            f"**fails**: {outcome.fault}" if outcome.fault else "holds",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table into the page, between its marks."""
    page = PAGE.read_text()
    before, _, rest = page.partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- end -->\n")
    assert rest, f"{PAGE} has no marks"
    PAGE.write_text(f"{before}<!-- table -->\n\n{text}\n\n<!-- end -->\n{after}")
