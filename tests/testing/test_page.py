"""The examples of docs/testing-your-api.md are run as a reader would: in a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "testing-your-api.md"


def files(text: str) -> dict[str, str]:
    """Find the blocks whose first line is the name of a file."""
    return dict(re.findall(r"```\w+\n# (\S+/?\S*\.\w+)\n(.*?)```", text, flags=re.DOTALL))


def test_every_example_runs(tmp_path: Path) -> None:
    found = files(PAGE.read_text())
    assert PAGE.read_text().count("```python") == sum(name.endswith(".py") for name in found)
    for name, text in found.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    count = sum(len(re.findall(r"def test_", text)) for text in found.values())
    assert count > 5
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr
