"""The AsyncAPI definition of a project, read as a whole, with the channels behind its topics.

The loader leaves out what it does not use; here schemas of messages are read, too. Channels are
named by the rules of `config.channels`. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import asyncapi, channel_name, channels, extensions, references
from trio_gw.config.document import Document, read
from trio_gw.config.faults import WrongError
from trio_gw.config.findings import Findings
from trio_gw.config.nodes import Mapping
from trio_gw.documents import values
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Mapping as Mapped

    from trio_gw.config.nodes import Node
    from trio_gw.errors import Problem

_SIDES = {"receive": "publish", "send": "subscribe"}


class DeclaredOperation(NamedTuple):
    """One operation of a channel: its name in the document, and `publish` or `subscribe`.

    `publish` is what clients send. `action` is the word of the document.
    """

    key: str
    side: str
    action: str
    node: Node
    line: int


class DeclaredChannel(NamedTuple):
    """One channel: the topic it becomes, its key, and its operations in the order of the file."""

    topic: str
    key: str
    node: Node
    line: int
    operations: tuple[DeclaredOperation, ...]


class WholeDefinition(NamedTuple):
    """A definition: its document with resolved channels, its version, its channels by topic.

    `problems` are those of reading it. Without `whole`, schemas of messages were left out, because
    the document has too many values.
    """

    document: Document
    version: tuple[int, int]
    channels: Mapped[str, tuple[DeclaredChannel, ...]]
    problems: tuple[Problem, ...]
    whole: bool

    @property
    def root(self) -> Mapping:
        """The root of the document."""
        return self.document.root


def read_definition(data: bytes, file: str) -> WholeDefinition:
    """Read a definition. Raises `UnusableError` if it cannot be used."""
    problems: tuple[Problem, ...] = ()
    whole = True
    try:
        document = read(data, file, whole=True)
    except UnusableError as error:
        document = read(data, file)
        problems, whole = error.problems, False
    findings = Findings(document)
    version = asyncapi.version(findings)
    if version is None:
        raise UnusableError(findings.problems)
    resolved = Findings(document)
    references.follow(resolved, asyncapi.places(version[0], ()), strict=False)
    document = resolved.document
    found: dict[str, list[DeclaredChannel]] = {}
    for channel in _listed(document, version[0]):
        found.setdefault(channel.topic, []).append(channel)
    by_topic = {topic: tuple(each) for topic, each in found.items()}
    return WholeDefinition(document, version, by_topic, problems, whole)


def _listed(document: Document, major: int) -> list[DeclaredChannel]:
    root = document.root
    how = values.text(root, extensions.CHANNEL_NAMES, 20)
    server = values.text(root, extensions.SERVER, values.SHORT)
    subjects = how == extensions.SUBJECTS
    declared = list(values.entries(values.child(root, "channels")))
    by_channel = _operations(document) if major == 3 else {}
    alone = all(_address(node) is None for _, _, node in declared)
    found = []
    for key, line, node in declared:
        if not isinstance(node, Mapping):
            continue
        written: str | None = key
        if major == 3:
            written = _address(node)
            operations = tuple(by_channel.get(key, ()))
            if written is None and (alone or (subjects and operations)):
                written = "/"
        else:
            operations = _sides(node)
        if written is not None:
            topic = _topic(written, how, subjects=subjects)
            found.append(DeclaredChannel(topic, key, node, line, operations))
    own = [each for each in found if channels.belongs(document, ("channels", each.key), server)]
    # Which servers count is decided by the loader; a name that it serves is never left out here.
    rest = {each.topic for each in found} - {each.topic for each in own}
    return [*own, *(each for each in found if each.topic in rest)]


def _topic(written: str, how: str, *, subjects: bool) -> str:
    name = written.partition("?")[0]
    if not name.startswith("/") and how:
        name = channel_name.placed(name, subjects=subjects)
    return channel_name.encoded(name)


def _address(channel: Node) -> str | None:
    found = values.child(channel, "address")
    if found is None or values.is_null(found):
        return None
    return values.text(channel, "address")


def _sides(channel: Mapping) -> tuple[DeclaredOperation, ...]:
    """Return the operations of a channel of AsyncAPI 2."""
    found = []
    for key, line, node in values.entries(channel):
        side = key.casefold()
        if side in ("publish", "subscribe") and isinstance(node, Mapping):
            name = values.text(node, "operationId", values.SHORT)
            found.append(DeclaredOperation(name, side, side, node, line))
    return tuple(found)


def _operations(document: Document) -> dict[str, list[DeclaredOperation]]:
    """Return the operations of AsyncAPI 3 by the key of their channel."""
    found: dict[str, list[DeclaredOperation]] = {}
    for key, line, node in values.entries(values.child(document.root, "operations")):
        action = values.text(node, "action", 20)
        pointer = values.reference(values.child(node, "channel"))
        channel = _channel_key(document, pointer)
        if action in _SIDES and channel is not None:
            operation = DeclaredOperation(key, _SIDES[action], action, node, line)
            found.setdefault(channel, []).append(operation)
    return found


def _channel_key(document: Document, pointer: str) -> str | None:
    try:
        steps = references.pointer(pointer) if pointer else ()
    except WrongError:
        return None
    if len(steps) == 2 and steps[0] == "channels":
        return steps[1]
    target = references.find(document.root, pointer) if pointer else None
    for key, _, node in values.entries(values.child(document.root, "channels")):
        if target is not None and node is target:
            return key
    return None
