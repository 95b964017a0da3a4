"""kill -9 at random moments of deployments: what was answered is there after the restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.crashes import Crashes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("workers", "rounds"), [(1, 15), (2, 5)])
def test_what_was_acknowledged_survives(base: Path, workers: int, rounds: int) -> None:
    crashes = Crashes(base, seed=7, workers=workers)
    assert list(crashes.run(rounds))[-1] == crashes.kills == rounds
    assert crashes.answered > 0
