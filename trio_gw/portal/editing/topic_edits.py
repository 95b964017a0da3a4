"""Changes topics of a definition, AsyncAPI 2 or 3. Pure.

spec: project-format §5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_gw.config import extensions
from trio_gw.config.text_edit import NotEditableError
from trio_gw.portal.editing.topic_forms import (
    OPEN,
    TIERS,
    Direction,
    ParameterForm,
    TopicReader,
    extension_keys,
    in_order,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACTIONS = {"publish": "receive", "subscribe": "send"}


class TopicEdits(TopicReader):
    """The topics of the definition of a draft, which can be changed."""

    def _key(self, name: str) -> str:
        key = self.channels().get(name)
        if key is None:
            raise NotEditableError(f"there is no topic `{name[:80]}`")
        if "$ref" in self.mapping("channels", key):
            raise NotEditableError(f"the topic `{name[:80]}` is written by a `$ref`")
        return key

    def _places(self, name: str) -> list[tuple[str, ...]]:
        operations = self.operations(self._key(name))
        places = operations.get("publish") or operations.get("subscribe")
        if not places:
            raise NotEditableError(f"the topic `{name[:80]}` has no operation")
        return places

    def set(self, name: str, key: str, value: Any) -> None:  # noqa: ANN401 - a value of a file
        """Set a key of the operation that speaks for a topic; None removes it."""
        for place in self._places(name):
            self.files.set("asyncapi", (*place, key), value)

    def set_tier(self, name: str, tier: str) -> None:
        """Set the tier of a topic; empty for none."""
        for place in self._places(name):
            self.files.set("asyncapi", (*place, TIERS[1]), None)
        self.set(name, TIERS[0], tier or None)

    def set_secured(self, name: str, *, secured: bool) -> None:
        """Say whether a topic asks for a token."""
        channel = ("channels", self._key(name))
        for place in (*self._places(name), *(() if self.three else (channel,))):
            for key in OPEN:
                if self.files.value("asyncapi", *place, key) is not None:
                    self.files.set("asyncapi", (*place, key), None)
        if not secured:
            self.set(name, "x-auth-type", "None")

    def add(self, name: str, direction: Direction) -> None:
        """Add a topic whose path is passed to the backend."""
        if name in self.channels():
            raise NotEditableError(f"there is a topic `{name[:80]}` already")
        settings = {extensions.PASS_PATH: True}
        names = in_order(name)
        if not self.three:
            channel: dict[str, Any] = {}
            if names:
                schema: Any = {"schema": {"type": "string"}}
                channel["parameters"] = dict.fromkeys(names, schema)
            for side in _sides(direction):
                channel[side] = settings
                settings = {}
            self.files.set("asyncapi", ("channels", name), channel)
            return
        key = self._free("channels", name)
        channel = {"address": name}
        if names:
            channel["parameters"] = {each: {} for each in names}
        self.files.set("asyncapi", ("channels", key), channel)
        for side in _sides(direction):
            self._add_operation(key, side, settings)
            settings = {}

    def _free(self, section: str, name: str) -> str:
        """Return a key that is not used in a section."""
        words = "".join(each if each.isalnum() else " " for each in name).split() or ["topic"]
        base = words[0] + "".join(each.capitalize() for each in words[1:])
        used = self.mapping(section)
        numbered = (f"{base}{number}" for number in range(2, len(used) + 3))
        return next(each for each in (base, *numbered) if each not in used)

    def _add_operation(self, key: str, side: str, settings: dict[str, Any]) -> None:
        action = _ACTIONS[side]
        pointer = f"#/channels/{key.replace('~', '~0').replace('/', '~1')}"
        operation = {"action": action, "channel": {"$ref": pointer}, **settings}
        name = self._free("operations", f"{action} {key}")
        self.files.set("asyncapi", ("operations", name), operation)

    def set_direction(self, name: str, direction: Direction) -> None:
        """Say what clients do on a topic; what its operation sets stays."""
        key = self._key(name)
        held, wanted = self.operations(key), _sides(direction)
        places = held.get("publish") or held.get("subscribe") or []
        kept = extension_keys(self.mapping(*places[0])) if places else {}
        speaker = "publish" if "publish" in wanted else "subscribe"
        for side in wanted:
            if side in held:
                continue
            settings = kept if side == speaker else {}
            if self.three:
                self._add_operation(key, side, settings)
            else:
                self.files.set("asyncapi", ("channels", key, side), settings)
        if speaker in held and places is not held[speaker]:
            for path in held[speaker]:
                for each, value in kept.items():
                    self.files.set("asyncapi", (*path, each), value)
        for side, paths in held.items():
            for path in paths if side not in wanted else ():
                self.files.set("asyncapi", path, None)

    def rename(self, name: str, to: str) -> None:
        """Give a topic another path."""
        key = self._key(name)
        if name == to:
            return
        if to in self.channels():
            raise NotEditableError(f"there is a topic `{to[:80]}` already")
        if self.three:
            self.files.set("asyncapi", ("channels", key, "address"), to)
        else:
            self.files.editor("asyncapi").rename(("channels", key), to)
            key = to
        before, after = in_order(name), in_order(to)
        gone = [each for each in before if each not in after]
        come = [each for each in after if each not in before]
        if len(gone) == len(come):
            for old, new in zip(gone, come, strict=True):
                self._rename_parameter(key, old, new)
        else:
            self._replace_parameters(key, gone, come)

    def _rename_parameter(self, key: str, old: str, new: str) -> None:
        """Give a parameter another name, also in the mappings of the topic."""
        declared = self.mapping("channels", key, "parameters")
        if old in declared and new not in declared:
            self.files.editor("asyncapi").rename(("channels", key, "parameters", old), new)
        for paths in self.operations(key).values():
            for path in paths:
                mapping = self.files.value("asyncapi", *path, "x-uri-mapping")
                if isinstance(mapping, str):
                    changed = mapping.replace(f"{{uri.var.{old}}}", f"{{uri.var.{new}}}")
                    self.files.set("asyncapi", (*path, "x-uri-mapping"), changed)

    def _replace_parameters(self, key: str, gone: list[str], come: list[str]) -> None:
        declared = self.mapping("channels", key, "parameters")
        new: Any = {} if self.three else {"schema": {"type": "string"}}
        for each in come:
            if each not in declared:
                self.files.set("asyncapi", ("channels", key, "parameters", each), new)
        for each in gone:
            if each in declared:
                self.files.set("asyncapi", ("channels", key, "parameters", each), None)
        if not self.mapping("channels", key, "parameters"):
            self.files.set("asyncapi", ("channels", key, "parameters"), None)

    def remove(self, name: str) -> None:
        """Remove a topic and its operations."""
        key = self.channels().get(name)
        if key is None:
            raise NotEditableError(f"there is no topic `{name[:80]}`")
        for paths in self.operations(key).values() if self.three else ():
            for path in paths:
                self.files.set("asyncapi", path, None)
        self.files.set("asyncapi", ("channels", key), None)

    def set_parameter(self, name: str, given: ParameterForm) -> None:
        """Describe a parameter of a topic."""
        if given.name not in in_order(name):
            raise NotEditableError(f"`{name[:80]}` has no parameter `{given.name[:80]}`")
        base = ("channels", self._key(name), "parameters", given.name)
        self.files.set("asyncapi", (*base, "description"), given.description or None)
        below = () if self.three else ("schema",)
        values: Any = list(given.values) or None
        if values and below and self.files.value("asyncapi", *base, "schema", "type") is None:
            self.files.set("asyncapi", (*base, "schema", "type"), "string")
        self.files.set("asyncapi", (*base, *below, "enum"), values)


def _sides(direction: Direction) -> Sequence[str]:
    return {
        "send": ("publish",),
        "receive": ("subscribe",),
        "both": ("publish", "subscribe"),
    }[direction]
