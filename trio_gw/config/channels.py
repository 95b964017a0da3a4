"""The channels of an AsyncAPI definition, and which of their operations speaks for each.

Called by `asyncapi`. A channel is one connection that carries both directions, so of `publish`
and `subscribe` only one speaks for it. AsyncAPI 3 sees the same from the other side: what the
application receives is what clients publish, so `receive` there is `publish` here, and `send`
is `subscribe`. spec: project-format §5.2, §5.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import channel_name, references, topic
from trio_gw.config.convert import convert
from trio_gw.config.findings import WrongError

if TYPE_CHECKING:
    from trio_gw.config.api import Topic
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_SIDES = {"receive": "publish", "send": "subscribe"}


class _Channel2(msgspec.Struct, frozen=True):
    # The losing operation is not read, so neither is typed before it is known which one wins.
    publish: dict[str, Any] | None = None
    subscribe: dict[str, Any] | None = None


class _Root2(msgspec.Struct, frozen=True):
    channels: dict[str, _Channel2 | None] | None = None


class _Channel3(msgspec.Struct, frozen=True):
    address: str | None = None


class _Root3(msgspec.Struct, frozen=True):
    channels: dict[str, _Channel3] | None = None
    operations: dict[str, dict[str, Any]] | None = None


class _Reference(msgspec.Struct, frozen=True, rename={"target": "$ref"}):
    target: str = ""


class _Operation3(msgspec.Struct, frozen=True):
    action: str = ""
    channel: _Reference = _Reference()


def read(findings: Findings, rules: topic.Rules) -> tuple[Topic, ...]:
    """Read all topics in the order of the file; channels nobody uses are warned about."""
    topics = _Topics(findings, rules)
    if rules.schemes.version[0] == 2:
        for key, channel in (convert(_Root2, findings).channels or {}).items():
            sides: dict[str, list[Path]] = {
                side: [("channels", key, side)]
                for side in ("publish", "subscribe")
                if channel is not None and getattr(channel, side) is not None
            }
            topics.add(key, ("channels", key), ("channels", key), sides)
    else:
        root = convert(_Root3, findings)
        channels = root.channels or {}
        operations = _operations(findings, root.operations or {}, channels)
        for key, found in channels.items():
            path: Path = ("channels", key)
            if found.address is not None:
                topics.add(found.address, (*path, "address"), path, operations.get(key, {}))
            elif not findings.spoilt(path):
                what = f"the channel `{key[:80]}` has no address, so nobody can connect: skipped"
                findings.warn(path, what, "write `address: /…`, the path that clients ask for")
    if not topics.found and not findings.spoilt(("channels",)):
        what = "no topic: there is no channel with `publish` or `subscribe`"
        mend = "add a channel, for example `/chat:` with `publish: {}` below it"
        if rules.schemes.version[0] == 3:
            what = "no topic: there is no channel with an address and an operation"
            mend = "give a channel an `address`, and name it as the `channel` of an operation"
        findings.error(("channels",), what, mend)
    return tuple(topics.found.values())


class _Topics:
    """The topics so far, by name."""

    def __init__(self, findings: Findings, rules: topic.Rules) -> None:
        self.found: dict[str, Topic] = {}
        self._findings = findings
        self._rules = rules

    def add(self, key: str, place: Path, path: Path, sides: dict[str, list[Path]]) -> None:
        """Make the channel at `path` a topic; `key` is its name as written at `place`.

        `sides` are the paths of its operations as `publish` and `subscribe`.
        """
        findings = self._findings
        name = key.partition("?")[0]
        if not channel_name.check(key, name, place, findings):
            return
        if not sides:
            if not findings.spoilt(path) and not findings.spoilt(("operations",)):
                self._discard(name, path)
            return
        wins = "publish" if "publish" in sides else "subscribe"
        if wins == "publish":
            self._warn_silent(name, sides)
        found = topic.read(name, path, sides[wins], self._rules, findings)
        if name in self.found:
            what = f"two channels are `{name[:80]}` once what follows `?` is cut off"
            findings.error(place, what, "remove one of the two")
        self.found[name] = found

    def _discard(self, name: str, path: Path) -> None:
        what = f"the channel `{name[:80]}` has neither `publish` nor `subscribe`: discarded"
        mend = "add `publish: {}` below it, or remove the channel"
        if self._rules.schemes.version[0] == 3:
            what = f"no operation uses the channel `{name[:80]}`: discarded"
            mend = "add an operation with `action: receive` or `send` for it, or remove it"
        self._findings.warn(path, what, mend)

    def _warn_silent(self, name: str, sides: dict[str, list[Path]]) -> None:
        words = ("publish", "subscribe")
        if self._rules.schemes.version[0] == 3:
            words = ("receive", "send")
        for silent in sides.get("subscribe", ()):
            if topic.speaks(self._findings.document.node(silent)):
                self._findings.warn(
                    silent,
                    f"`{words[0]}` speaks for the channel `{name[:80]}`: the `x-` keys and the"
                    f" `security` of `{words[1]}` are not read",
                    f"move them to `{words[0]}`, or remove them",
                )


def _operations(
    findings: Findings, operations: dict[str, dict[str, Any]], channels: dict[str, _Channel3]
) -> dict[str, dict[str, list[Path]]]:
    """Sort the operations of AsyncAPI 3 by the channel they name, and by side.

    One that cannot be placed is an error: it may hold what protects its channel.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for key in operations:
        path: Path = ("operations", key)
        operation = convert(_Operation3, findings, path)
        side = _SIDES.get(operation.action)
        if side is None and not findings.spoilt((*path, "action")):
            what = f"the operation `{key[:80]}` has no `action` that is known"
            mend = "write `action: receive` for what clients publish, `action: send` for the rest"
            findings.error((*path, "action"), what, mend)
        channel = _channel(findings, key, operation.channel.target, channels)
        if side is not None and channel is not None:
            found.setdefault(channel, {}).setdefault(side, []).append(path)
    return found


def _channel(
    findings: Findings, key: str, reference: str, channels: dict[str, _Channel3]
) -> str | None:
    path: Path = ("operations", key, "channel")
    if findings.spoilt(path) or findings.spoilt(("channels",)):
        return None
    subject = f"the channel of the operation `{key[:80]}`"
    mend = "write `$ref: '#/channels/name'`, with `~1` for `/` in the name"
    if not reference:
        findings.error(path, f"{subject} is not named by a `$ref`", mend)
        return None
    try:
        steps = references.pointer(reference)
    except WrongError as error:
        findings.wrong((*path, "$ref"), subject, error)
        return None
    if len(steps) == 2 and steps[0] == "channels" and steps[1] in channels:
        return steps[1]
    what = f"{subject} is not in this file: `{reference[:80]}`"
    findings.error((*path, "$ref"), what, mend)
    return None
