"""Run the gateway between real servers and clients, and print the results as a table.

Usage: run [--write] [--only TEXT] [--keep]; `run` installs what is needed and calls this.
The exit code is 1 when a case fails. README.md beside this tells how to add a case.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from cases import CASES
from page import Outcome, table, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from case import Case

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GATEWAY = Path(sys.executable).parent / "trio-gw"
START = 30.0  # seconds until a server listens
TALK = 30.0  # seconds that a client may take
STOP = 10.0  # seconds until what is told to stop has stopped
AT_ONCE = 2
BASE = "/peer/1.0.0"
LISTEN = '[listen]\nhttp = "127.0.0.1:0"\nhttps = "127.0.0.1:0"\nadmin = ""\n'


class Failed(Exception):
    """A case does not hold; the text is the reason."""


class Running:
    """A process of a case, with its output in a file."""

    def __init__(self, process: trio.Process, log: Path) -> None:
        self.process = process
        self.log = log

    def last(self) -> str:
        """Return the most useful line of the output: the last error, else the last line."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
        lines = [line for line in lines if line]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return (errors or lines or ["no output"])[-1][:300]

    async def says(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until the output has this many matches; return the group of each."""
        with trio.move_on_after(START):
            while True:
                found = re.findall(pattern, self.log.read_text(errors="replace"))
                if len(found) >= count:
                    return found
                if self.process.poll() is not None:
                    break
                await trio.sleep(0.02)
        raise Failed(f"does not start: {self.last()}")


class Bench:
    """The place where cases run: the installed peers, and a folder for each gateway."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self.installed = installed
        self.folder = folder
        self.certs = folder / "certs"
        self.token = ""

    async def prepare(self) -> None:
        """Make the certificate and the token that all gateways share; copy the Node programs.

        Node looks for packages beside the file that imports them. The first gateway makes the
        certificate.
        """
        for program in (HERE / "programs").glob("*.mjs"):
            shutil.copy(program, self.installed)
        (self.folder / "gateway.toml").write_text(LISTEN)
        log = self.folder / "first.log"
        async with self.start([GATEWAY, "run"], log, {}, self.folder) as first:
            await first.says(r"listening on (https\S+)")
        made = await trio.run_process([GATEWAY, "token"], cwd=self.folder, capture_stdout=True)
        self.token = made.stdout.decode().strip()

    def command(self, program: str) -> list[str]:
        """Return the command line of `FILE FUNCTION`."""
        file, *rest = program.split()
        if file.endswith(".mjs"):
            return [
                "node",
                "--experimental-websocket",
                "--no-warnings",
                str(self.installed / file),
                *rest,
            ]
        return [str(self.installed / "venv/bin/python"), str(HERE / "programs" / file), *rest]

    @contextlib.asynccontextmanager
    async def start(
        self,
        command: Sequence[str | os.PathLike[str]],
        log: Path,
        env: Mapping[str, str],
        cwd: Path,
    ) -> AsyncIterator[Running]:
        """Run a command in a process group of its own, which ends with the block."""
        with log.open("wb") as output:
            process: trio.Process = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=cwd, env={**os.environ, **env}, start_new_session=True,
            )  # fmt: skip
        try:
            yield Running(process, log)
        finally:
            with trio.CancelScope(shield=True):
                await stop(process)

    async def project(self, case: Case, folder: Path, port: int) -> None:
        """Write the settings, and the project with `trio-gw init`."""
        shutil.copytree(self.certs, folder / "certs")
        (folder / "gateway.toml").write_text(f"{case.setting}\n{LISTEN}")
        options = [f"--topic={topic}" for topic in case.topics]
        backend = f"--backend={case.backend.format(port=port)}"
        made = await trio.run_process(
            [GATEWAY, "init", "--name=Peer", backend, *options],
            cwd=folder, capture_stdout=True, capture_stderr=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise Failed(f"trio-gw init: {made.stderr.decode().strip()}")
        definition = folder / "apis/Peer-1.0.0/Definitions/asyncapi.yaml"
        lines = "".join(f"      {line}\n" for line in case.key.splitlines())
        text = re.sub(
            r"(?m)^    publish:\n", lambda found: found[0] + lines, definition.read_text()
        )
        if not case.mapped:
            keys = r"(?m)^ *(x-uri-mapping|x-trio-gw-pass-path): .*$"
            text = re.sub(keys, "      description: as exported", text)
        definition.write_text(text)

    async def run(self, case: Case, folder: Path) -> None:
        """Run one case; raises `Failed`."""
        env = {
            "PEER_BASE": BASE,
            "PEER_TOKEN": self.token,
            "PEER_CA": str(self.certs / "mg.pem"),
            "NODE_EXTRA_CA_CERTS": str(self.certs / "mg.pem"),
        }
        async with contextlib.AsyncExitStack() as stack:

            async def start(program: str | None) -> Running:
                command = [str(GATEWAY), "run"] if program is None else self.command(program)
                name = re.sub(r"\W", "-", program or "gateway")
                return await stack.enter_async_context(
                    self.start(command, folder / f"{name}.log", env, folder)
                )

            port = (await (await start(case.server)).says(r"(?m)^PORT (\d+)$"))[0]
            await self.project(case, folder, int(port))
            gateway = await start(None)
            addresses = await gateway.says(r"listening on (https?://[^\"\s]+:\d+)", 2)
            for address in addresses:
                scheme, _, rest = address.partition("://")
                host = "localhost" if scheme == "https" else "127.0.0.1"
                env[f"PEER_{scheme.upper()}"] = f"{scheme}://{host}:{rest.rpartition(':')[2]}"
            if case.front:
                env["PEER_FRONT"] = (await (await start(case.front)).says(r"(?m)^PORT (\d+)$"))[0]
            client = await start(case.client)
            with trio.move_on_after(TALK):
                if await client.process.wait() == 0:
                    return
                raise Failed(client.last())
            raise Failed(f"no end within {TALK:.0f} s")

    async def judge(self, case: Case, limit: trio.CapacityLimiter, outcomes: list[Outcome]) -> None:
        """Run a case and record its result."""
        async with limit:
            started, fault = trio.current_time(), ""
            folder = self.folder / re.sub(r"\W+", "-", case.name)
            folder.mkdir()
            try:
                await self.run(case, folder)
            except Failed as failure:
                fault = str(failure)
            seconds = trio.current_time() - started
            print(
                f"{'FAILED' if fault else 'ok':6} {seconds:5.1f} s  {case.name}  {fault}",
                file=sys.stderr,
            )
            outcomes.append(Outcome(case, seconds, fault))


async def stop(process: trio.Process) -> None:
    """End a process and its children; it leads a process group."""
    for number in 15, 9:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with trio.move_on_after(STOP):
            await process.wait()
            break
    with contextlib.suppress(ProcessLookupError):  # those who outlived the leader
        os.killpg(process.pid, 9)


async def run_all(bench: Bench, cases: Sequence[Case]) -> list[Outcome]:
    """Run the cases, a few at once."""
    await bench.prepare()
    outcomes: list[Outcome] = []
    limit = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(bench.judge, case, limit, outcomes)
    return outcomes


@contextlib.contextmanager
def scratch(keep: bool) -> Iterator[str]:
    """Make a folder; remove it afterwards unless it should be kept."""
    if keep:
        folder = tempfile.mkdtemp(prefix="peers-")
        print(f"logs: {folder}", file=sys.stderr)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="peers-") as made:
            yield made


def main() -> int:
    """Parse the command line, run, and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/peers/run",
        description="Run the gateway between real servers and clients.",
        epilog="To add a case, see scripts/peers/README.md.",
    )
    parser.add_argument("installed", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/peers.md")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this text")
    parser.add_argument("--keep", action="store_true", help="keep the folders with all logs")
    given = parser.parse_args()
    cases = [case for case in CASES if given.only in case.name]
    if not cases:
        parser.error(f"no case has {given.only!r} in its name")
    if given.write and given.only:
        parser.error("--write needs all cases, so it cannot stand with --only")
    with scratch(given.keep) as folder:
        bench = Bench(given.installed.resolve(), Path(folder))
        outcomes = trio.run(partial(run_all, bench, cases))
    text = table(given.installed, outcomes)
    print(text)
    failed = sum(bool(outcome.fault) for outcome in outcomes)
    print(f"\n{len(outcomes) - failed} of {len(outcomes)} cases hold", file=sys.stderr)
    if given.write:
        write(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
