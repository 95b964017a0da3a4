"""The parameters of a topic's name: what they mean, and an example value of each. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from trio_gw.config import channel_name
from trio_gw.config.nodes import Mapping
from trio_gw.documents import values
from trio_gw.documents.samples import sample
from trio_gw.documents.schema_tree import type_of

if TYPE_CHECKING:
    from trio_gw.config.nodes import Node
    from trio_gw.documents.definition import DeclaredChannel, WholeDefinition

_PLAIN = re.compile(r"[A-Za-z0-9._~-]{1,60}")
_CONSTRAINTS = ("format", "pattern", "minLength", "maxLength", "minimum", "maximum")


class ParameterView(msgspec.Struct, frozen=True):
    """One parameter. `declared`: the definition describes it. `example` may be made up."""

    name: str
    declared: bool
    type: str = "string"
    description: str = ""
    enum: tuple[str, ...] = ()
    default: str = ""
    examples: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    location: str = ""
    example: str = ""
    made_up: bool = True
    line: int = 0


def parameters_of(
    name: str, definition: WholeDefinition | None, channel: DeclaredChannel | None
) -> tuple[ParameterView, ...]:
    """Describe the parameters of a topic in the order of its name."""
    declared = {}
    if channel is not None:
        for key, line, node in values.entries(values.child(channel.node, "parameters")):
            declared[key] = line, node
    found = []
    for each in channel_name.ordered_parameters(name):
        if definition is None or each not in declared:
            found.append(ParameterView(each, declared=False, example=_invented(each)))
            continue
        line, written = declared[each]
        target, _ = values.resolved(definition.root, written)
        found.append(_parameter(definition.root, each, target, line))
    return tuple(found)


def example_values(parameters: tuple[ParameterView, ...]) -> dict[str, str]:
    """Return the example of each parameter, percent-encoded as in a request path."""
    return {one.name: quote(one.example, safe="") for one in parameters}


def _parameter(root: Mapping, name: str, node: Node | None, line: int) -> ParameterView:
    schema, _ = values.resolved(root, values.child(node, "schema"))
    # AsyncAPI 3 has no schema: enum, default and examples are those of the parameter itself.
    rules = schema if isinstance(schema, Mapping) else node
    enum = values.names(values.child(rules, "enum"))
    default = values.text(rules, "default", values.SHORT)
    examples = values.names(values.child(rules, "examples"), 10)
    if single := values.text(rules, "example", values.SHORT):
        examples = (single, *examples)
    examples = (*values.names(values.child(node, "examples"), 10), *examples)
    given = next(filter(None, (*examples, default, *enum)), "")
    made = "" if given or not isinstance(schema, Mapping) else str(sample(root, schema))
    return ParameterView(
        name,
        declared=True,
        type=type_of(root, schema) if isinstance(schema, Mapping) else "string",
        description=values.text(node, "description") or values.text(schema, "description"),
        enum=enum,
        default=default,
        examples=tuple(dict.fromkeys(examples)),
        constraints=tuple(
            f"{key} {text}" for key in _CONSTRAINTS if (text := values.text(rules, key, 200))
        ),
        location=values.text(node, "location", values.SHORT),
        example=given or (made if made not in ("", "text", "None") else _invented(name)),
        made_up=not given,
        line=line,
    )


def _invented(name: str) -> str:
    """Make up a value that reads like the parameter."""
    return f"my-{name}" if _PLAIN.fullmatch(name) else "1"
