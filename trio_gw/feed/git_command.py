"""Run the program `git` so that it cannot ask questions, hang, or reveal a secret.

This is the only module that runs git. Each run has a deadline and limits for its output, the size
of the files it writes and its memory. It has its own process group, because git starts other
processes; the whole group is killed when the run is cancelled or too slow. The environment is that
of the gateway, without variables that change the behaviour of git. No configuration files are
read, so no foreign hook, filter, alias or helper runs, and only the transport of the configured
address is allowed.

Git receives the token in the environment of that one process. A credential helper gives it to the
configured server only, and only when the server asks for it. It is not in a command line or a URL,
and it is removed from the output of git.
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
from trio_gw.feed.git_errors import GitError, explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table

MAX_STDERR = 64 << 10  # bytes of standard error that are kept
OVERHEAD = 8 << 20  # bytes beyond `max_size` that a file may have for data that is not content
MEMORY = 2 << 20  # KiB of address space of each process
KILL_TIMEOUT = 5.0  # seconds to wait until a killed process has ended

# `ulimit -f` counts blocks of 512 bytes. A lower existing limit stays. XFSZ is ignored so that a
# write that exceeds the limit fails and git reports that; the signal would end git silently.
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
    "core.bigFileThreshold": "1m",  # larger files are streamed, not held in memory
    "core.hooksPath": "/dev/null",
    "credential.helper": "",
    "fetch.fsckObjects": "false",
    "fetch.unpackLimit": "1",  # always keep one pack, so that its size is limited
    "gc.auto": "0",
    "http.lowSpeedLimit": "1",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "pack.deltaCacheSize": "8m",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}


class GitCommand:
    """Runs git for the repository of `[git]`; relative paths are relative to `base`."""

    def __init__(self, table: Table, base: Path, environ: Mapping[str, str]) -> None:
        self._timeout = table.timeout
        self._secrets = secrets_of(table)
        self._blocks = str(((table.max_size << 20) + OVERHEAD) // 512)
        self._environment = environment(table, base, environ)

    async def run(
        self,
        *arguments: str,
        cwd: Path,
        most: int = 0,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> bytes:
        """Run git until it ends; return its output, at most `most` bytes.

        With `stdout`, the output is written there instead. Raises `GitError` for every failure.
        """
        errors, output = bytearray(), bytearray()
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
            ended = False
            try:
                async with trio.open_nursery() as nursery:
                    assert process.stderr is not None
                    nursery.start_soon(_drain, process.stderr, errors)
                    if process.stdout is not None:
                        nursery.start_soon(_collect, process.stdout, output, most, process)
                    await process.wait()
                ended = True  # and no other process holds its pipes
            finally:
                if not ended:
                    _kill(process)
                with trio.move_on_after(KILL_TIMEOUT, shield=True):
                    await _end(process)
        if scope.cancelled_caught:
            what = f"git {arguments[0]} took longer than {self._timeout:g} s"
            raise GitError(what, "check the network, or increase git.timeout")
        if process.stdout is not None and len(output) > most:
            what = f"git {arguments[0]} has too much output"
            raise GitError(what, "keep fewer files in the repository", temporary=False)
        if process.returncode:
            raise explain(self.clean(errors), arguments[0], process.returncode)
        return bytes(output)

    def clean(self, output: bytes | bytearray) -> str:
        """Return output as text, with all secrets removed."""
        text = output.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


async def _drain(stream: trio.abc.ReceiveStream, kept: bytearray) -> None:
    """Read to the end, so that the writer never blocks; keep the beginning."""
    while data := await stream.receive_some():
        kept += data[: MAX_STDERR - len(kept)]


async def _collect(
    stream: trio.abc.ReceiveStream, output: bytearray, most: int, process: trio.Process
) -> None:
    while data := await stream.receive_some():
        output += data
        if len(output) > most:
            _kill(process)
            return


async def _end(process: trio.Process) -> None:
    """Close the pipes and wait for the process, which has ended or been killed."""
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            await pipe.aclose()
    await process.wait()


def _kill(process: trio.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def faults(table: Table, base: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """List reasons why git cannot work: missing programs, unreadable files."""
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
            hint = "set another file, or give the gateway's user read access"
            yield Problem(str(base / named), 0, 0, what, hint)
        else:
            if key == "ssh_key" and mode & 0o077:
                what = "git.ssh_key can be read by other users, so ssh refuses it"
                yield Problem(str(base / named), 0, 0, what, "chmod 600 it")


def environment(table: Table, base: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for git: ours without variables for git and the gateway."""
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
        "LC_ALL": "C",  # `git_errors` matches these messages
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
    """Return the command that git runs for SSH: it never asks and never trusts a new host.

    With a key in the settings, the configuration of the user and SSH agents are not used.
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
    """List every form in which git may print the token, the longest first."""
    if not table.token:
        return ()
    pair = f"{table.username or 'git'}:{table.token}"
    forms = {table.token, quote(table.token, safe=""), base64.b64encode(pair.encode()).decode()}
    return tuple(sorted(forms, key=len, reverse=True))
