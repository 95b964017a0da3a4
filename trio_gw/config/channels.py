"""The channels of an AsyncAPI definition, and the operation that describes each.

Called by `asyncapi`. A channel is one connection for both directions, so only one of `publish` and
`subscribe` describes it. AsyncAPI 3 uses the view of the application: it receives what clients
publish, so `receive` there is `publish` here, and `send` is `subscribe`.
spec: project-format §5.2, §5.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import channel_name, extensions, references, topic
from trio_gw.config.convert import convert
from trio_gw.config.faults import WrongError

if TYPE_CHECKING:
    from trio_gw.config.api import Topic
    from trio_gw.config.document import Document
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_SIDES = {"receive": "publish", "send": "subscribe"}


class _Channel2(msgspec.Struct, frozen=True):
    # The other operation is not read, so neither has a type before the choice is made.
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
    """Read all topics in the order of the file; warn about unused channels."""
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
        _read_3(topics, findings, rules)
    topics.end()
    if not topics.found and not findings.spoilt(("channels",)):
        what = "no topic: there is no channel with `publish` or `subscribe`"
        hint = "add a channel, for example `/chat:` with `publish: {}` below it"
        if rules.schemes.version[0] == 3:
            what = "no topic: there is no channel with an address and an operation"
            hint = "give a channel an `address`, and name it as the `channel` of an operation"
        findings.error(("channels",), what, hint)
    return tuple(topics.found.values())


def _read_3(topics: _Topics, findings: Findings, rules: topic.Rules) -> None:
    root = convert(_Root3, findings)
    channels = root.channels or {}
    if not root.operations and not findings.spoilt(("operations",)):
        operations: dict[str, dict[str, list[Path]]] = {
            key: {"publish": [("channels", key)]} for key in channels
        }
        if any(found.address is not None for found in channels.values()):
            what = "there are no `operations`: every channel with an address is a topic"
            hint = "add `operations`, each with an `action` and a `channel`"
            findings.warn(("channels",), what, hint)
    else:
        operations = _operations(findings, root.operations or {}, channels)
    subjects = rules.root.channel_names == extensions.SUBJECTS
    alone = all(found.address is None for found in channels.values())
    if alone and channels and not subjects and not findings.spoilt(("channels",)):
        what = "no channel has an address, so all are one connection to the server's own URL"
        findings.warn(("channels",), what, "write `address: /…` if clients request a path")
    for key, found in channels.items():
        path: Path = ("channels", key)
        if found.address is not None:
            topics.add(found.address, (*path, "address"), path, operations.get(key, {}))
        elif alone or (subjects and key in operations):
            topics.add("/", path, path, operations.get(key, {}))
        elif not findings.spoilt(path):
            what = f"the channel `{key[:80]}` has no address, so no client can connect: skipped"
            findings.warn(path, what, "write `address: /…`, the path that clients request")


def belongs(found: Document, path: Path, server: str) -> bool:
    """Return whether the channel at a path belongs to a server; an empty name means all.

    A sandbox has the channels of production.
    """
    if not server:
        return True
    mine = {server.casefold()}
    wanted = mine | {"sandbox"} if mine == {"production"} else mine
    listed = found.value((*path, "servers"))
    names = {
        name.rpartition("/")[2].casefold()
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(name := each.get("$ref") if isinstance(each, dict) else each, str)
    }
    return not names or bool(names & wanted)


class _Topics:
    """The topics so far, by name."""

    def __init__(self, findings: Findings, rules: topic.Rules) -> None:
        self.found: dict[str, Topic] = {}
        self._findings = findings
        self._rules = rules
        self._first: dict[str, str] = {}  # the key that a topic comes from
        self._unused: list[tuple[str, Path]] = []

    def add(self, key: str, place: Path, path: Path, sides: dict[str, list[Path]]) -> None:
        """Make the channel at `path` a topic; `key` is its name as written at `place`.

        `sides` are the paths of its operations as `publish` and `subscribe`. Channels of one
        name are one topic, so they have to agree.
        """
        findings = self._findings
        if not belongs(findings.document, path, self._rules.server_name):
            return
        name = key.partition("?")[0]
        if not name.startswith("/") and (how := self._rules.root.channel_names):
            name = channel_name.placed(name, subjects=how == extensions.SUBJECTS)
        if not channel_name.check(key, name, place, findings):
            return
        name = channel_name.encoded(name)
        if not sides:
            self._unused.append((name, path))
            return
        wins = "publish" if "publish" in sides else "subscribe"
        if wins == "publish":
            self._warn_silent(name, sides)
        found = topic.read(name, path, sides[wins], self._rules, findings)
        first = self.found.setdefault(name, found)
        before = self._first.setdefault(name, str(path[-1]))
        if found != first and not findings.spoilt(path):
            findings.error(
                place,
                f"the channels `{before[:80]}` and `{str(path[-1])[:80]}` are one topic,"
                f" `{name[:80]}`, but their mapping, scopes or security differ",
                "give both the same `x-` keys and `security`",
            )

    def end(self) -> None:
        """Warn about channels that no operation uses, except those of an existing topic."""
        for name, path in self._unused:
            spoilt = self._findings.spoilt(path) or self._findings.spoilt(("operations",))
            if name not in self.found and not spoilt:
                self._discard(name, path)

    def _discard(self, name: str, path: Path) -> None:
        what = f"the channel `{name[:80]}` has neither `publish` nor `subscribe`: discarded"
        hint = "add `publish: {}` below it, or remove the channel"
        if self._rules.schemes.version[0] == 3:
            what = f"no operation uses the channel `{name[:80]}`: discarded"
            hint = "add an operation with `action: receive` or `send` for it, or remove it"
        self._findings.warn(path, what, hint)

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
            hint = "write `action: receive` for what clients publish, `action: send` for the rest"
            findings.error((*path, "action"), what, hint)
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
    hint = "write `$ref: '#/channels/name'`, with `~1` for `/` in the name"
    if not reference:
        findings.error(path, f"{subject} is not named by a `$ref`", hint)
        return None
    try:
        steps = references.pointer(reference)
    except WrongError as error:
        findings.wrong((*path, "$ref"), subject, error)
        return None
    if len(steps) == 2 and steps[0] == "channels" and steps[1] in channels:
        return steps[1]
    target = references.find(findings.document.root, reference)
    if target is not None:
        # As `#/components/channels/name`: the same channel, if `channels` refers to it too.
        for name in channels:
            if findings.document.node(("channels", name)) is target:
                return name
        what = f"{subject} is `{reference[:80]}`, which is not one of `channels`"
        findings.error((*path, "$ref"), what, "write `$ref: '#/channels/name'`")
        return None
    what = f"{subject} is not in this file: `{reference[:80]}`"
    findings.error((*path, "$ref"), what, hint)
    return None
