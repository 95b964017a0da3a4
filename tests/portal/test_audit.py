"""The audit log: one line for each change, no secrets, bounded."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from trio_gw.portal import audit

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_full_files_are_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_BYTES", 200)
    folder = tmp_path / "portal"
    for number in range(100):
        audit.append(folder, {"action": "deploy", "number": number})
    names = sorted(path.name for path in folder.glob("audit*"))
    assert names == [*(f"audit.{n}.jsonl" for n in range(1, audit.KEPT + 1)), "audit.jsonl"]
    assert sum(path.stat().st_size for path in folder.glob("audit*")) < 200 * (audit.KEPT + 2)
    last = (folder / "audit.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["number"] == 99


def test_no_secret_and_no_long_text() -> None:
    facts = audit._bounded(
        {
            "password": "x",
            "Client-Secret": "x",
            "token": "x",
            "consumer_key": "id",
            "note": "n" * 900,
        }
    )
    assert set(facts) == {"consumer_key", "note"}
    assert facts["note"] == "n" * audit.MOST_TEXT


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.ERROR):
        audit.append(tmp_path / "file" / "portal", {"action": "deploy"})
    assert "the audit log cannot be written" in caplog.text
