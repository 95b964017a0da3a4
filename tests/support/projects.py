"""API projects written to a folder, as an operator would drop them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OAUTH2 = {"securitySchemes": {"oauth2": {"type": "oauth2", "flows": {}}}}


def api(name: str, context: str, backend: str | None, **data: Any) -> dict[str, Any]:
    """Build an `api.yaml`; `data` adds to, or replaces, fields of its `data`."""
    endpoints = {"production_endpoints": {"url": backend}} if backend else {}
    return {
        "type": "api",
        "version": "v4.1.0",
        "data": {
            "name": name,
            "version": "1.0.0",
            "context": context,
            "type": "WS",
            "endpointConfig": {"endpoint_type": "ws", **endpoints},
            **data,
        },
    }


def asyncapi(channels: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Build an AsyncAPI document with an oauth2 scheme."""
    return {"asyncapi": "2.0.0", "channels": channels, "components": OAUTH2, **more}


def write(root: Path, folder: str, meta: dict[str, Any], definition: dict[str, Any]) -> Path:
    """Write a project; JSON is YAML too."""
    project = root / folder
    (project / "Definitions").mkdir(parents=True, exist_ok=True)
    (project / "api.yaml").write_text(json.dumps(meta, indent=1))
    (project / "Definitions" / "asyncapi.yaml").write_text(json.dumps(definition, indent=1))
    return project


def environments(project: Path, *deployments: tuple[str, str]) -> None:
    """Write deployment_environments.yaml with these (environment, vhost) pairs."""
    data = [
        {"displayOnDevportal": True, "deploymentEnvironment": environment}
        | ({"deploymentVhost": vhost} if vhost else {})
        for environment, vhost in deployments
    ]
    text = json.dumps({"type": "deployment_environments", "version": "v4.0.0", "data": data})
    (project / "deployment_environments.yaml").write_text(text)
