"""Who may use a topic, and which line of the definition says so. Pure.

The loader has decided already (`config.topic`); here its decision is explained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.nodes import Scalar
from trio_gw.documents import values

if TYPE_CHECKING:
    from trio_gw.config.api import ApiProject, Topic
    from trio_gw.config.nodes import Node
    from trio_gw.documents.definition import DeclaredChannel, DeclaredOperation, WholeDefinition


class ScopeView(msgspec.Struct, frozen=True):
    """A scope that opens the topic, and what the definition says about it."""

    name: str
    description: str = ""


class AccessView(msgspec.Struct, frozen=True):
    """Whether a topic needs a token, why, and what the token must have.

    `line` and `scopes_line` are lines of the definition; 0 if no line says so.
    """

    secured: bool
    why: str
    line: int = 0
    scopes: tuple[ScopeView, ...] = ()
    scopes_from: str = ""
    scopes_line: int = 0
    api_keys: tuple[str, ...] = ()
    certificate: str = ""
    header: str = ""


def access_of(
    project: ApiProject,
    topic: Topic,
    definition: WholeDefinition | None,
    channel: DeclaredChannel | None,
    speaker: DeclaredOperation | None,
) -> AccessView:
    """Explain the access rules of a topic; its channel and operation may be unknown."""
    secured, why, line = _switch(project, topic, channel, speaker)
    scopes_from, scopes_line = "", 0
    if secured and topic.scopes:
        scopes_from, scopes_line = _source(definition, channel, speaker)
    known = {} if definition is None else scope_descriptions(definition)
    names = topic.scopes or () if secured else ()
    return AccessView(
        secured,
        why,
        line,
        tuple(ScopeView(name, known.get(name, "")) for name in names[: values.LISTED]),
        scopes_from,
        scopes_line,
        tuple(f"{one.place} {one.name}" for one in topic.api_keys) if secured else (),
        project.mutual_tls if project.mutual_tls != "ignored" else "",
        project.authorization_header,
    )


def _switch(
    project: ApiProject,
    topic: Topic,
    channel: DeclaredChannel | None,
    speaker: DeclaredOperation | None,
) -> tuple[bool, str, int]:
    if project.lifecycle == "PROTOTYPED":
        return False, "the API is in the state PROTOTYPED", 0
    if topic.secured:
        return True, "every topic needs a token unless the definition opens it", 0
    for node in _nodes(channel, speaker):
        if values.text(node, "x-auth-type", 20) == "None":
            return False, "x-auth-type: None", values.line_of(node, "x-auth-type")
        if values.is_true(values.child(node, "x-wso2-disable-security")):
            line = values.line_of(node, "x-wso2-disable-security")
            return False, "x-wso2-disable-security: true", line
    return False, "the definition opens it", 0


def _source(
    definition: WholeDefinition | None,
    channel: DeclaredChannel | None,
    speaker: DeclaredOperation | None,
) -> tuple[str, int]:
    """Return which key names the scopes, and its line."""
    for node in _nodes(channel, speaker):
        if line := values.line_of(node, "x-scopes"):
            return "x-scopes", line
    if speaker is not None and (line := values.line_of(speaker.node, "security")):
        return "security of the operation", line
    servers = None if definition is None else values.child(definition.root, "servers")
    for name, _, server in values.entries(servers):
        target, _ = (None, "") if definition is None else values.resolved(definition.root, server)
        if line := values.line_of(target, "security"):
            return f"security of the server {values.cut(name, 80)}", line
    return "", 0


def _nodes(channel: DeclaredChannel | None, speaker: DeclaredOperation | None) -> list[Node]:
    return [one.node for one in (speaker, channel) if one is not None]


def scope_descriptions(definition: WholeDefinition) -> dict[str, str]:
    """Return the descriptions of scopes in the security schemes of a definition."""
    found: dict[str, str] = {}
    components = values.child(definition.root, "components")
    for _, _, scheme in values.entries(values.child(components, "securitySchemes")):
        for _, _, flow in values.entries(values.child(scheme, "flows")):
            for key in ("scopes", "availableScopes"):
                for scope, _, node in values.entries(values.child(flow, key)):
                    if isinstance(node, Scalar) and not values.is_null(node):
                        found.setdefault(scope, values.cut(node.text))
    return found
