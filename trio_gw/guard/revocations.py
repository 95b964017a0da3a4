"""Revoked tokens: not accepted, although their signature and times are valid.

Each process has one. Its sources are the file of the setting `revocations`, the registry of
applications, and a control plane, which names tokens one by one (`revoke`). `schemes` asks at every
handshake, also for a token that was verified before; `proxy.sweeper` ends the open connections of a
token that is revoked.

The file has one entry per line; a `#` at its start or after a space begins a comment:

    3f6c61c2-5b8e-4a44-9a2f-6f0f4e5d8c11    a token, by its claim `jti`
    subject=alice                           every token of a subject (claim `sub`)
    consumer_key=Xw9…                       every token of an application

A token without `jti` is named by the hexadecimal SHA-256 of its text. Revoking is urgent, lifting
is not: a file with a faulty line, or a missing file, lifts no revocation. The valid lines of a
faulty file are in force.
"""

from __future__ import annotations

import hashlib
import logging
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec
import trio

from trio_gw.errors import Problem
from trio_gw.guard import lists
from trio_gw.watch.files import Reloaded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from trio_gw.guard.caller import Caller

log = logging.getLogger("trio_gw.revocations")

NameKind = Literal["subject", "consumer_key"]

FILE = "file"  # the origin of the entries of the file
MAX_BYTES = 32 << 20  # some 800,000 token ids
MAX_FAULTS = 20  # each is a line of the log
SIGNATURE = 80  # characters: what has more may be a signature
_ENTRY = re.compile(r"(?:(token|subject|consumer_key)\s*=\s*)?(\S.{0,1023})")


class Revoked(msgspec.Struct, frozen=True):
    """The revocations of one source. `tokens` are ids as in `Caller.token_id`.

    `owned` are tokens by id and subject: that of another subject is not meant. `before` has a time
    (epoch seconds) by kind and name: tokens of that subject or consumer key that were issued before
    it are revoked, and those that do not say when.
    """

    tokens: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()
    consumer_keys: frozenset[str] = frozenset()
    owned: frozenset[tuple[str, str]] = frozenset()
    before: Mapping[tuple[NameKind, str], float] = MappingProxyType({})

    def __len__(self) -> int:
        named = len(self.tokens) + len(self.subjects) + len(self.consumer_keys)
        return named + len(self.owned) + len(self.before)

    def __or__(self, other: Revoked) -> Revoked:
        return Revoked(
            self.tokens | other.tokens,
            self.subjects | other.subjects,
            self.consumer_keys | other.consumer_keys,
            self.owned | other.owned,
            {
                key: max(self.before.get(key, 0), other.before.get(key, 0))
                for key in (*self.before, *other.before)
            },
        )


NOTHING = Revoked()


class Revocations:
    """The current set: merged from the sets of some sources, and the tokens named one by one."""

    def __init__(self) -> None:
        self._by_origin: dict[str, Revoked] = {}
        self._all = NOTHING
        self._named: dict[str, float] = {}  # until when each must be known, in epoch seconds
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._all) + len(self._named)

    def of(self, origin: str) -> Revoked:
        """Return the revocations of a source."""
        return self._by_origin.get(origin, NOTHING)

    def publish(self, origin: str, revoked: Revoked) -> bool:
        """Replace the revocations of a source; return whether that changed anything."""
        if revoked == self.of(origin):
            return False
        self._by_origin[origin] = revoked
        merged = NOTHING
        for one in self._by_origin.values():
            merged |= one
        self._all = merged
        self._tell()
        return True

    def revoke(self, tokens: Mapping[str, float]) -> None:
        """Revoke single tokens, each until a time in epoch seconds, when it has expired anyway.

        A token is named by one of its `names_of`. The cost does not depend on how many are revoked
        already.
        """
        new = not tokens.keys() <= self._named.keys()
        self._named.update(tokens)
        if new:
            self._tell()

    def reinstate(self, tokens: Iterable[str]) -> None:
        """Accept these tokens again, unless another source revokes them."""
        for token in tokens:
            self._named.pop(token, None)

    def purge(self, now: float) -> int:
        """Forget the single tokens whose time is over; return how many there were."""
        over = [token for token, until in self._named.items() if until <= now]
        self.reinstate(over)
        return len(over)

    def covers(self, caller: Caller) -> bool:
        """Return whether a caller's token is revoked. Some look-ups, well under a microsecond."""
        known, named = self._all, self._named
        token_id, subject, consumer_key = caller.token_id, caller.subject, caller.consumer_key
        return (
            token_id in known.tokens
            or (bool(subject) and subject in known.subjects)
            or (bool(consumer_key) and consumer_key in known.consumer_keys)
            or (bool(named) and (token_id in named or caller.signature_id in named))
            or (bool(known.owned) and (token_id, subject) in known.owned)
            or (bool(known.before) and self._is_too_old(caller))
        )

    def earliest(self, subject: str, consumer_key: str) -> float:
        """Return the time (epoch seconds) before which no token of these may be issued."""
        before = self._all.before
        by_key = before.get(("consumer_key", consumer_key), 0)
        return max(before.get(("subject", subject), 0), by_key)

    def _is_too_old(self, caller: Caller) -> bool:
        earliest = self.earliest(caller.subject, caller.consumer_key)
        return earliest > 0 and (caller.issued_at is None or caller.issued_at < earliest)

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @property
    def changed(self) -> trio.Event:
        """The event of the next change."""
        return self._changed


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of a token that API Manager revokes: a `jti`, or a signature as sent.

    A signature is named by its digest, as in `Caller.signature_id`: the shortest, of 64 bytes, has
    86 characters.
    """
    if len(text) < SIGNATURE:
        return (text,)
    written = text.rstrip("=").encode("utf-8", "surrogatepass")
    return text, hashlib.sha256(written).hexdigest()


def parse(data: bytes, file: str) -> tuple[Revoked, tuple[Problem, ...]]:
    """Read a revocation file: its entries, and a problem for each invalid line."""
    found: Mapping[str, set[str]] = {"token": set(), "subject": set(), "consumer_key": set()}
    problems: list[Problem] = []
    for number, text, _ in lists.lines(data):
        entry = _ENTRY.fullmatch(text)
        if entry is None or not lists.legible(text):
            what = "is not an entry: it is too long, has a control character or is not UTF-8"
            hint = "write a token's jti, or subject=…, or consumer_key=…"
            problems.append(Problem(file, number, 0, what, hint))
        else:
            found[entry[1] or "token"].add(entry[2])
    revoked = Revoked(
        frozenset(found["token"]), frozenset(found["subject"]), frozenset(found["consumer_key"])
    )
    return revoked, tuple(problems[:MAX_FAULTS])


def from_file(path: Path, revocations: Revocations) -> Reloaded[Revoked]:
    """Make the file a source, for `watch.files` to load when it changes."""

    def load() -> Revoked:
        stays = "its revocations stay in force"
        held = bool(revocations.of(FILE))
        data = lists.read(path, MAX_BYTES, stays, "tokens that have expired by now", held=held)
        revoked, problems = parse(data, str(path))
        for problem in problems:
            log.error("%s", problem)
        return revocations.of(FILE) | revoked if problems else revoked

    async def use(revoked: Revoked) -> bool:
        changed = revocations.publish(FILE, revoked)
        if changed:
            log.info("%d tokens, subjects and applications are revoked", len(revoked))
        return changed

    return Reloaded("revoked tokens", (path,), load, use)
