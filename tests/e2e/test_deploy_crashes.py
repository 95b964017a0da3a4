"""kill -9 at random moments of deployments: what was answered is there after the restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.crashes import Crashes

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 20


def test_what_was_acknowledged_survives(base: Path) -> None:
    crashes = Crashes(base, seed=7)
    assert list(crashes.run(ROUNDS))[-1] == crashes.kills == ROUNDS
    assert crashes.answered > ROUNDS
