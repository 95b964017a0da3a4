"""Projects and their definitions, for tests of what the documents of an API say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config.project import load
from trio_gw.documents.definition import read_definition
from trio_gw.documents.topic_view import topic_view

if TYPE_CHECKING:
    from trio_gw.config.api import ApiProject
    from trio_gw.documents.definition import WholeDefinition
    from trio_gw.documents.topic_view import TopicView

API = b"""\
data:
  name: Chat
  version: 1.0.0
  context: /chat
  type: WS
  endpointConfig:
    production_endpoints: {url: ws://backend.internal:9000/base}
"""

CHAT = """\
asyncapi: 2.6.0
info: {title: Chat, version: 1.0.0}
defaultContentType: application/json
channels:
  /rooms/{room}:
    description: A room with **people**.
    parameters:
      room: {$ref: '#/components/parameters/room'}
    publish:
      operationId: say
      summary: Say something
      x-uri-mapping: /rooms?id={uri.var.room}
      x-scopes: [chat:write]
      x-trio-gw-inspect: true
      message:
        oneOf:
          - $ref: '#/components/messages/said'
          - name: typing
            payload: {type: object, properties: {on: {type: boolean}}, required: [on]}
    subscribe:
      x-scopes: [chat:read]
      message: {$ref: '#/components/messages/said'}
  /open/*:
    publish:
      x-auth-type: None
components:
  parameters:
    room: {description: its name, schema: {type: string, enum: [lobby, kitchen]}}
  messages:
    said:
      title: Said
      payload: {$ref: '#/components/schemas/Said'}
      headers: {type: object, properties: {trace: {type: string, format: uuid}}}
      examples: [{name: short, payload: {text: hello, size: 1.50}}]
  schemas:
    Said:
      type: object
      required: [text]
      properties:
        text: {type: string, maxLength: 200}
        size: {type: number, minimum: 0.5}
        answers: {type: array, items: {$ref: '#/components/schemas/Said'}}
        from: {oneOf: [{$ref: '#/components/schemas/Person'}, {type: 'null'}]}
    Person:
      type: object
      properties: {name: {type: string}, boss: {$ref: '#/components/schemas/Person'}}
  securitySchemes:
    oauth2:
      type: oauth2
      flows: {clientCredentials: {tokenUrl: 'https://x', scopes: {'chat:write': talk}}}
"""


def project_of(definition: str, api: bytes = API) -> ApiProject:
    """Load a project with this definition; it must have no errors."""
    loaded = load({"api.yaml": api, "Definitions/asyncapi.yaml": definition.encode()}, "apis/Chat")
    assert loaded.project is not None, loaded.problems
    return loaded.project


def described(definition: str) -> WholeDefinition:
    """Read a definition as a whole."""
    return read_definition(definition.encode(), "Definitions/asyncapi.yaml")


def views(definition: str, *, backends: bool = True) -> dict[str, TopicView]:
    """Describe all topics of a definition, by name."""
    project, whole = project_of(definition), described(definition)
    return {
        topic.name: topic_view(project, topic, number, whole, backends=backends)
        for number, topic in enumerate(project.topics)
    }


def plain(value: object) -> Any:
    """Turn what was described into plain values."""
    return msgspec.to_builtins(value)
