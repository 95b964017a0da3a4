"""kill -9 while the portal deploys and states change: what was answered is there afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.lifecycle_crashes import LifecycleCrashes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("workers", "rounds"), [(1, 4), (2, 2)])
def test_deployments_states_and_revisions_survive(base: Path, workers: int, rounds: int) -> None:
    crashes = LifecycleCrashes(base, seed=3, workers=workers)
    assert list(crashes.run(rounds))[-1] == crashes.kills == rounds
    assert crashes.answered > 0
