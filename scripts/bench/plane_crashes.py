"""kill -9 of gateways with a control plane, for as many rounds as asked for.

    python scripts/bench/plane_crashes.py [ROUNDS] [WORKERS]

With one worker everything is killed; with several everything, the supervisor, the worker that
follows API Manager, or another one, at random. Needs RabbitMQ. Fails at the first start that does
not serve the cache, or does not reach the state of API Manager.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import tempfile
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.apim import start_apim
from support.plane_crashes import PlaneCrashes
from support.publisher import publishing
from support.rabbitmq import RabbitMQ
from trio_gw.guard.certificates import ensure_certificate

EVERY = 10  # rounds from one line to the next


async def run(base: Path, broker: RabbitMQ, rounds: int, workers: int) -> None:
    """Run the rounds."""
    async with trio.open_nursery() as nursery:
        apim = await start_apim(nursery)
        async with publishing(broker.port, seconds=3600) as publisher:
            crashes = PlaneCrashes(
                *(base, apim, publisher, broker.url()), workers=workers, seed=rounds + workers
            )
            async for done in crashes.run(rounds):
                if done % EVERY == 0 or done == rounds:
                    print(f"{done} rounds: {crashes.kills}", flush=True)
        for name, times in (("cache served", crashes.starts), ("caught up", crashes.caught_up)):
            if times:
                middle, worst = statistics.median(times), max(times)
                print(f"{name} after {middle:.2f} s (median), {worst:.2f} s (worst)")
        nursery.cancel_scope.cancel()


def main() -> None:
    """Start a broker, and kill gateways."""
    rounds, workers = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((1, 100), (2, 2))
    )
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs", "rabbitmq"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        broker = RabbitMQ(base / "rabbitmq")
        try:
            broker.start()
            trio.run(run, base, broker, rounds, workers)
        finally:
            broker.close()


if __name__ == "__main__":
    main()
