"""Kill the gateway (SIGKILL) during deployments, for a number of rounds.

    python scripts/bench/crashes.py [ROUNDS] [WORKERS]

With one worker (the default) the script kills the gateway, with several the supervisor or a worker
at random. It prints its progress, the number of acknowledged changes, and the duration of starts.
It fails if a restarted gateway lacks an acknowledged change, or leaves unexpected files in
`deployed/`.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.crashes import Crashes
from trio_gw.guard.certificates import ensure_certificate

EVERY = 10  # rounds between two lines of output


def main() -> None:
    """Run the rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "apis").mkdir()
        (base / "certs").mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        crashes = Crashes(base, seed=1, workers=workers)
        began = time.monotonic()
        for done in crashes.run(rounds):
            if done % EVERY == 0 or done == rounds:
                took = time.monotonic() - began
                print(f"{done} rounds, {crashes.answered} answered, {took:.0f} s", flush=True)
        start = statistics.median(crashes.starts) * 1000
        print(
            f"{crashes.kills} kills ({workers} workers), {crashes.answered} changes answered,"
            f" none lost; a start took {start:.0f} ms (median)"
        )


if __name__ == "__main__":
    main()
