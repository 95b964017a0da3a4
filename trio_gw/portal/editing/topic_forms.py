"""Topics of a definition, AsyncAPI 2 or 3, as a form shows them. Pure.

In AsyncAPI 2 the operation of a topic is `publish`, else `subscribe`; in AsyncAPI 3 it is each one
with the action `receive` (clients send), else `send`. spec: project-format §5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trio_gw.config import channel_name, extensions
from trio_gw.config.inspection import MAX_MESSAGE

if TYPE_CHECKING:
    from trio_gw.portal.editing.draft_files import DraftFiles

Direction = Literal["send", "receive", "both"]
SIDES = ("publish", "subscribe")
OPEN = ("x-auth-type", "x-wso2-disable-security")
TIERS = ("x-throttling-tier", "x-wso2-throttling-tier")


class ParameterForm(msgspec.Struct, frozen=True):
    """One parameter of a topic."""

    name: str
    description: str = ""
    values: tuple[str, ...] = ()


class TopicForm(msgspec.Struct, frozen=True):
    """A topic as the form shows it: `direction` is what clients do."""

    name: str
    direction: Direction
    mapping: str = ""
    pass_path: bool = False
    plain_http: bool = False
    scopes: tuple[str, ...] = ()
    secured: bool = True
    tier: str = ""
    max_message: int | None = None
    parameters: tuple[ParameterForm, ...] = ()
    locked: str = ""  # why it can only be changed in the text


class TopicReader:
    """The topics of the definition of a draft."""

    def __init__(self, files: DraftFiles) -> None:
        self.files = files
        self._values = files.editor("asyncapi").values
        self.three = str(self._values.get("asyncapi", "")).startswith("3")

    def mapping(self, *path: str) -> dict[str, Any]:
        """Return the mapping at a path; an empty one if there is none."""
        found = self.files.value("asyncapi", *path)
        return found if isinstance(found, dict) else {}

    # -- reading -------------------------------------------------------------------------------

    def forms(self) -> list[TopicForm]:
        """List the topics in the order of the file."""
        return [self._form(name, key) for name, key in self.channels().items()]

    def channels(self) -> dict[str, str]:
        """Map the name of each topic to the key of its channel."""
        channels = self.mapping("channels")
        if not self.three:
            return {name: name for name in channels}
        addresses = {
            str(channel["address"]): key
            for key, channel in channels.items()
            if isinstance(channel, dict) and channel.get("address") is not None
        }
        return addresses or ({"/": next(iter(channels))} if channels else {})

    def operations(self, key: str) -> dict[str, list[tuple[str, ...]]]:
        """Map `publish` and `subscribe` to the paths of the operations of a channel."""
        if not self.three:
            channel = self.mapping("channels", key)
            return {
                side: [("channels", key, side)]
                for side in SIDES
                if channel.get(side, ...) not in (..., None)
            }
        found: dict[str, list[tuple[str, ...]]] = {}
        pointer = f"#/channels/{key.replace('~', '~0').replace('/', '~1')}"
        for name, operation in self.mapping("operations").items():
            if not isinstance(operation, dict):
                continue
            named = operation.get("channel")
            target = named.get("$ref") if isinstance(named, dict) else None
            if target == pointer:
                side = "publish" if operation.get("action") == "receive" else "subscribe"
                found.setdefault(side, []).append(("operations", name))
        return found

    def _form(self, name: str, key: str) -> TopicForm:
        operations = self.operations(key)
        places = operations.get("publish") or operations.get("subscribe") or []
        own = self.mapping(*places[0]) if places else {}
        channel = self.mapping("channels", key)
        both: dict[str, Any] = {**({} if self.three else extension_keys(channel)), **own}
        root = extension_keys(self.mapping())
        size = both.get(MAX_MESSAGE, root.get(MAX_MESSAGE))
        return TopicForm(
            name,
            direction=_direction(operations),
            mapping=_text(own.get("x-uri-mapping")),
            pass_path=both.get(extensions.PASS_PATH, root.get(extensions.PASS_PATH)) is True,
            plain_http=both.get(extensions.PLAIN_HTTP, root.get(extensions.PLAIN_HTTP)) is True,
            scopes=tuple(map(str, own.get("x-scopes") or ())),
            secured=not _is_open(both),
            tier=next((_text(both[each]) for each in TIERS if each in both), ""),
            max_message=size if type(size) is int else None,
            parameters=tuple(self._parameters(name, channel)),
            locked=_why_locked(channel, used=bool(places)),
        )

    def _parameters(self, name: str, channel: dict[str, Any]) -> list[ParameterForm]:
        given = channel.get("parameters")
        declared = given if isinstance(given, dict) else {}
        found = []
        for each in in_order(name):
            given = declared.get(each)
            one: dict[str, Any] = given if isinstance(given, dict) else {}
            schema: Any = one if self.three else one.get("schema")
            values = schema.get("enum") if isinstance(schema, dict) else None
            listed = tuple(map(str, values)) if isinstance(values, list) else ()
            found.append(ParameterForm(each, _text(one.get("description")), listed))
        return found


def _why_locked(channel: dict[str, Any], *, used: bool) -> str:
    if "$ref" in channel:
        return "it is written by a `$ref`"
    return "" if used else "no operation uses it"


def extension_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return the `x-` keys of a mapping."""
    return {key: each for key, each in values.items() if key.startswith("x-")}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_open(values: dict[str, Any]) -> bool:
    kind = _text(values.get("x-auth-type")).strip().casefold()
    switch = str(values.get("x-wso2-disable-security", "")).strip().casefold()
    return kind == "none" or switch == "true"


def _direction(operations: dict[str, list[tuple[str, ...]]]) -> Direction:
    if len(operations) == 2:
        return "both"
    return "receive" if "subscribe" in operations else "send"


def in_order(name: str) -> list[str]:
    """List the parameters of a topic in the order of its path."""
    return sorted(channel_name.parameters(name), key=lambda each: name.find(f"{{{each}}}"))
