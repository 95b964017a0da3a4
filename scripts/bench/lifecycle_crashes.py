"""kill -9 while the portal deploys and while states change, for as many rounds as asked for.

    python scripts/bench/lifecycle_crashes.py [ROUNDS] [WORKERS]

With one worker everything is killed; with several the supervisor, or a worker and then everything.
Fails at the first start that lacks an answered deployment, state or revision.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.lifecycle_crashes import LifecycleCrashes
from trio_gw.guard.certificates import ensure_certificate

EVERY = 10  # rounds between two lines of output


def main() -> None:
    """Run the rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        crashes = LifecycleCrashes(base, seed=rounds + workers, workers=workers)
        began = time.monotonic()
        for done in crashes.run(rounds):
            if done % EVERY == 0 or done == rounds:
                took = time.monotonic() - began
                print(f"{done} rounds, {crashes.answered} answered, {took:.0f} s", flush=True)
        print(f"{crashes.kills} kills ({workers} workers): no answered change was lost")


if __name__ == "__main__":
    main()
