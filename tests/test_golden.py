"""Golden cases: an API project beside what it compiles to, or what is wrong with it.

Each folder of `golden/` is named for the rule it holds (`format-5.3-…`: project-format §5.3,
`routing-3-…`: routing §3). `scripts/golden` writes `expected.json` anew; the difference is then
to be judged by eye, line by line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.golden import outcome

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path for path in GOLDEN.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda path: str(path.name))
def test_case(case: Path) -> None:
    expected: dict[str, Any] = json.loads((case / "expected.json").read_text())
    assert outcome(case) == expected


def test_there_are_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda path: str(path.name))
def test_problems_help(case: Path) -> None:
    """What is not served is a problem, what is an error is not served, and all can be fixed."""
    found = outcome(case)
    errors = [problem for problem in found["problems"] if problem["severity"] == "error"]
    assert found["routes"] or found["problems"]
    assert not (found["routes"] and errors)
    assert all(problem["hint"] for problem in found["problems"])
