#!/usr/bin/env python3
"""Kill -9 writers of the registry of applications: what was acknowledged is there.

PYTHONPATH=tests scripts/bench/registry_crashes.py [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support.registry_crashes import kill_writers

if __name__ == "__main__":
    ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        CHANGES = kill_writers(Path(folder, "portal"), ROUNDS, seed=1)
    print(f"{ROUNDS} kills, {CHANGES} changes, none lost")
