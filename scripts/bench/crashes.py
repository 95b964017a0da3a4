"""kill -9 during deployments, for as many rounds as asked for.

    python scripts/bench/crashes.py 200

Prints how many gateways were killed and how many changes were answered; fails at the first
restart that does not show what was answered, or leaves something stray in `deployed/`.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.crashes import Crashes
from trio_gw.guard.certificates import ensure_certificate


def main() -> None:
    """Run the rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "apis").mkdir()
        (base / "certs").mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        crashes = Crashes(base, seed=1)
        for _ in range(rounds):
            crashes.round()
        print(f"{crashes.kills} kills, {crashes.answered} changes answered, none lost")


if __name__ == "__main__":
    main()
