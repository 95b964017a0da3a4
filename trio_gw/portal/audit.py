"""The audit log `audit.jsonl` in the folder of the portal: who did what, when, and from where.

One line of JSON for each change that the portal made; never a secret. All workers append to one
file. It is replaced when it is full, and the last `KEPT` full ones stay. A log that cannot be
written does not stop the change; the gateway's own log says so. spec: portal §2.7.
"""

from __future__ import annotations

import datetime
import fcntl
import itertools
import logging
import os
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trio_gw.portal.request import PortalRequest

log = logging.getLogger("trio_gw.portal")

FILE = "audit.jsonl"
MOST_BYTES = 4 << 20  # of one file
KEPT = 4  # full files beside the current one: audit.1.jsonl is the latest of them
MOST_TEXT = 500  # characters of a value
MOST_FACTS = 20
_SECRET = ("password", "secret", "token", "key", "authorization", "credential")
_FINE = ("consumer_key", "key_type")  # not secret, although their names look so

Fact = str | int | float | bool | None


async def audit(request: PortalRequest, action: str, target: str, **facts: Fact) -> None:
    """Write what the caller of a request did: `audit(request, "deploy", "Chat:1.0.0", note=…)`.

    Values whose names sound secret are left out. Call it after the change, before the answer.
    """
    record = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "user": request.caller.user,
        "role": request.caller.role.name.lower(),
        "address": request.address,
        "action": action,
        "target": target[:MOST_TEXT],
        **_bounded(facts),
    }
    await request.services.in_thread(partial(append, request.services.folder, record))


def append(folder: Path, record: Mapping[str, Fact]) -> None:
    """Append one line. Blocks, never raises."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(folder / ".audit.lock", "ab", opener=regular.opener) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held for two system calls at most
            _turn(folder)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(folder / FILE, flags, 0o600)
            try:
                os.write(file, msgspec.json.encode(record) + b"\n")
            finally:
                os.close(file)
    except OSError as error:
        log.error("the audit log cannot be written (%s): %s", error.strerror, record["action"])


def _turn(folder: Path) -> None:
    """Put a full file aside, and remove the oldest."""
    try:
        if os.stat(folder / FILE).st_size < MOST_BYTES:
            return
    except FileNotFoundError:
        return
    names = [FILE, *(f"audit.{number}.jsonl" for number in range(1, KEPT + 1))]
    for newer, older in reversed(list(itertools.pairwise(names))):
        if (folder / newer).exists():
            os.replace(folder / newer, folder / older)


def _bounded(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    for name, value in list(facts.items())[:MOST_FACTS]:
        if name not in _FINE and any(word in name.lower() for word in _SECRET):
            continue
        found[name] = value[:MOST_TEXT] if isinstance(value, str) else value
    return found
