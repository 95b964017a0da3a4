"""Projects whose documents attack those who look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from support.described import API
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = secret("Ahth3oov")
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*191}}\u202e"
MARKDOWN = "[x](javascript:alert(1)) ![i](http://evil.example/i.png) <svg onload=alert(1)>"


def write(apis: Path, name: str, definition: str, api: bytes = API) -> None:
    folder = apis / name
    (folder / "Definitions").mkdir(parents=True)
    security = f"    endpoint_security: {{production: {{username: joe, password: {PASSWORD}}}}}\n"
    api = api.replace(b"    production_endpoints", security.encode() + b"    production_endpoints")
    api = api.replace(b"name: Chat", f"name: {name}".encode()).replace(
        b"/chat", f"/{name.lower()}".encode()
    )
    (folder / "api.yaml").write_bytes(api)
    (folder / "Definitions" / "asyncapi.yaml").write_text(definition)


def hostile() -> str:
    """Write a definition with scripts wherever a text can be."""
    schema = {
        "type": "object",
        "title": EVIL,
        "description": EVIL,
        "properties": {EVIL: {"type": EVIL, "enum": [EVIL], "default": EVIL, "pattern": EVIL}},
    }
    message = {
        "name": EVIL,
        "title": EVIL,
        "summary": EVIL,
        "description": MARKDOWN,
        "contentType": EVIL,
        "payload": schema,
        "headers": schema,
        "examples": [{"name": EVIL, "summary": EVIL, "payload": {EVIL: EVIL}}],
        "tags": [{"name": EVIL}],
        "correlationId": {"location": EVIL},
    }
    operation = {
        "operationId": EVIL,
        "summary": EVIL,
        "description": MARKDOWN,
        "tags": [{"name": EVIL}],
        "x-scopes": ["<script>alert(1)</script>"],
        "x-trio-gw-inspect": True,
        "x-trio-gw-other": EVIL,
        "x-throttling-tier": EVIL,
        "message": message,
    }
    parameter = {"description": EVIL, "schema": {"enum": [EVIL], "examples": [EVIL]}}
    flows = {"clientCredentials": {"scopes": {"<script>alert(1)</script>": EVIL}}}
    return yaml.safe_dump(
        {
            "asyncapi": "2.6.0",
            "info": {"title": EVIL, "version": EVIL, "description": MARKDOWN},
            "servers": {"other": {"url": f"ws://localhost:1/{EVIL}", "protocol": "ws"}},
            "channels": {
                "/<script>alert(1)</script>/{x}": {
                    "description": MARKDOWN,
                    "parameters": {"x": parameter},
                    "publish": operation,
                    "subscribe": {"x-" + EVIL: 1, "message": message},
                }
            },
            "components": {"securitySchemes": {"oauth2": {"type": "oauth2", "flows": flows}}},
        },
        allow_unicode=True,
    )
