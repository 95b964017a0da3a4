"""The Python files in `scripts/`, which neither mypy nor another test imports."""

from __future__ import annotations

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def missing(text: str) -> list[str]:
    """List the names that a source text imports from the package and that do not exist."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("trio_gw"):
            continue
        module = importlib.import_module(node.module or "")
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            submodule = hasattr(module, "__path__") and find_spec(whole) is not None
            if not submodule and not hasattr(module, alias.name):
                found.append(whole)
    return found


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.py")), ids=lambda path: path.name)
def test_what_a_script_imports_exists(path: Path) -> None:
    assert missing(path.read_text()) == []


def test_a_missing_name_is_found() -> None:
    text = "from trio_gw import routing\nfrom trio_gw.routing.table import Gone, RouteTable\n"
    assert missing(text) == ["trio_gw.routing.table.Gone"]
