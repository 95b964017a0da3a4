"""The program `git`, run so that it can neither ask, nor hang, nor tell a secret.

The only door to it. Every run has a deadline, a bound on what it says, on the size of the files
that it writes and on its memory, and a process group of its own, which is killed as a whole when
the run is cancelled or too slow: git starts others. Its environment is ours but for what steers
git; no configuration is read but what stands here, so no hook, filter, alias or helper of anyone's
is run, and no transport but that of the address.

The token reaches git by the environment of that one process, and the server only when it asks, and
only the server of the address: a helper of git's own kind answers for that host. It is on no
command line and in no URL, and is taken out of whatever git says.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from functools import partial
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

import trio

from trio_gw.config import git as addresses
from trio_gw.config import regular
from trio_gw.errors import Problem
from trio_gw.feed.gitwords import GitError, explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table

SAID = 64 << 10  # octets of what git says on standard error that are kept
HEADERS = 8 << 20  # octets beyond `max_size` that a file may have for what is not contents
MEMORY = 2 << 20  # KiB of address space of each process
WAIT = 5.0  # seconds for which a killed process may take to be gone

# `ulimit -f` counts blocks of 512 octets. A lower limit that is there already stays. What is too
# large fails, which git then says; the signal would end its helper without a word.
_LIMITED = (
    'trap "" XFSZ; '
    'for limit in "-f $1" "-v $2"; do (ulimit $limit) 2>/dev/null && ulimit $limit; done; '
    'shift 2; exec git "$@"'
)
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n"'
    ' "$GW_GIT_USERNAME" "$GW_GIT_TOKEN"; }; f'
)
_CONFIG: dict[str, str] = {
    "core.askPass": "",
    "core.bigFileThreshold": "1m",  # larger ones are streamed, not held in memory
    "core.hooksPath": "/dev/null",
    "credential.helper": "",
    "fetch.fsckObjects": "false",
    "fetch.unpackLimit": "1",  # one pack, so that its size is bounded
    "gc.auto": "0",
    "http.lowSpeedLimit": "1",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "pack.deltaCacheSize": "8m",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}


class Git:
    """Runs git for the repository of `[git]`; relative paths are relative to `base`."""

    def __init__(self, table: Table, base: Path, environ: Mapping[str, str]) -> None:
        self._timeout = table.timeout
        self._secrets = secrets_of(table)
        self._blocks = str(((table.max_size << 20) + HEADERS) // 512)
        self._environment = environment(table, base, environ)

    async def run(
        self,
        *arguments: str,
        cwd: Path,
        most: int = 0,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> bytes:
        """Run git to its end; return what it wrote, `most` octets at most.

        With `stdout` it writes there instead. Raises `GitError` for whatever goes wrong.
        """
        said, wrote = bytearray(), bytearray()
        command = ["/bin/sh", "-c", _LIMITED, "sh", self._blocks, str(MEMORY), *arguments]
        with trio.move_on_after(self._timeout) as scope:
            find = partial(shutil.which, "git", path=self._environment.get("PATH"))
            if await trio.to_thread.run_sync(find, abandon_on_cancel=True) is None:
                what, hint = "the program git is not installed", "install it (apt-get install git)"
                raise GitError(what, hint)
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=self._environment,
                start_new_session=True,
            )
            orderly = False
            try:
                async with trio.open_nursery() as nursery:
                    assert process.stderr is not None
                    nursery.start_soon(_listen, process.stderr, said)
                    if process.stdout is not None:
                        nursery.start_soon(_collect, process.stdout, wrote, most, process)
                    await process.wait()
                orderly = True  # and nobody else holds its pipes
            finally:
                if not orderly:
                    _kill(process)
                with trio.move_on_after(WAIT, shield=True):
                    await _end(process)
        if scope.cancelled_caught:
            what = f"git {arguments[0]} took longer than {self._timeout:g} s"
            raise GitError(what, "see to the network, or raise git.timeout")
        if process.stdout is not None and len(wrote) > most:
            what = f"git {arguments[0]} says too much"
            raise GitError(what, "keep fewer files there", passing=False)
        if process.returncode:
            raise explain(self.clean(said), arguments[0], process.returncode)
        return bytes(wrote)

    def clean(self, said: bytes | bytearray) -> str:
        """Give a text that may be shown: no secret in it."""
        text = said.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


async def _listen(stream: trio.abc.ReceiveStream, said: bytearray) -> None:
    """Read to the end, so that the writer never waits; keep the beginning."""
    while data := await stream.receive_some():
        said += data[: SAID - len(said)]


async def _collect(
    stream: trio.abc.ReceiveStream, wrote: bytearray, most: int, process: trio.Process
) -> None:
    while data := await stream.receive_some():
        wrote += data
        if len(wrote) > most:
            _kill(process)
            return


async def _end(process: trio.Process) -> None:
    """Leave nothing behind: neither the process, which has been killed or is over, nor a pipe."""
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            await pipe.aclose()
    await process.wait()


def _kill(process: trio.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def faults(table: Table, base: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Find what would keep git from working: programs and files that are not there."""
    ssh = addresses.parse(table.url).scheme == "ssh"
    for name, package in (("git", "git"), ("ssh", "openssh-client"))[: 1 + ssh]:
        if shutil.which(name, path=environ.get("PATH")) is None:
            what = f"the program {name} is not installed"
            yield Problem("git.url", 0, 0, what, f"install it (apt-get install {package})")
    for key in ("ssh_key", "known_hosts", "ca"):
        if not (named := getattr(table, key)):
            continue
        try:
            with open(base / named, "rb", opener=regular.opener) as file:
                mode = os.fstat(file.fileno()).st_mode
        except OSError as error:
            what = f"git.{key} cannot be read ({error.strerror})"
            hint = "name another file, or let the gateway's user read it"
            yield Problem(str(base / named), 0, 0, what, hint)
        else:
            if key == "ssh_key" and mode & 0o077:
                what = "git.ssh_key can be read by others, so ssh refuses it"
                yield Problem(str(base / named), 0, 0, what, "chmod 600 it")


def environment(table: Table, base: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Make the environment of git: ours, but for what steers git or holds our settings."""
    address = addresses.parse(table.url)
    given = {
        name: value
        for name, value in environ.items()
        if not re.match(r"GIT_|GW_|TRIO_GW_|SSH_ASKPASS|LC_|LANG", name)
    }
    config = dict(_CONFIG)
    config[f"protocol.{address.scheme}.allow"] = "always"
    config["http.lowSpeedTime"] = str(max(1, round(table.timeout)))
    if table.ca:
        config["http.sslCAInfo"] = str(base / table.ca)
    given |= {
        "LC_ALL": "C",  # `gitwords` knows these words
        "GIT_ALLOW_PROTOCOL": address.scheme,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if table.token:
        config[f"credential.{address.origin}.helper"] = _HELPER
        given["GW_GIT_USERNAME"] = table.username or "git"
        given["GW_GIT_TOKEN"] = table.token
    if address.scheme == "ssh":
        given["GIT_SSH_COMMAND"] = ssh_command(table, base)
        given["GIT_SSH_VARIANT"] = "ssh"
    given["GIT_CONFIG_COUNT"] = str(len(config))
    for index, (key, value) in enumerate(config.items()):
        given[f"GIT_CONFIG_KEY_{index}"] = key
        given[f"GIT_CONFIG_VALUE_{index}"] = value
    return given


def ssh_command(table: Table, base: Path) -> str:
    """Write the command that git runs for SSH: it never asks, and never trusts a new host.

    With a key in the settings the gateway's user has no say in it, nor has an agent.
    """
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no"]
    options += [f"ConnectTimeout={max(1, round(table.timeout))}"]
    options += ["ServerAliveInterval=15", "ServerAliveCountMax=2", "ForwardAgent=no"]
    options += ["ClearAllForwardings=yes", "PermitLocalCommand=no"]
    words = ["ssh"]
    if table.ssh_key:
        words += ["-F", "none", "-i", str((base / table.ssh_key).absolute())]
        options += [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
        ]
    if table.known_hosts:
        file = str((base / table.known_hosts).absolute())
        options += [f'UserKnownHostsFile="{file}"', "GlobalKnownHostsFile=/dev/null"]
    for option in options:
        words += ["-o", option]
    return shlex.join(words)


def secrets_of(table: Table) -> tuple[str, ...]:
    """Name every form in which the token might come back, the longest first."""
    if not table.token:
        return ()
    pair = f"{table.username or 'git'}:{table.token}"
    forms = {table.token, quote(table.token, safe=""), base64.b64encode(pair.encode()).decode()}
    return tuple(sorted(forms, key=len, reverse=True))
