"""The JSON Schemas of docs/analytics, and what they must be."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from trio_gw.telemetry.events import FaultEvent, ResponseEvent

FOLDER = Path(__file__).parent.parent.parent / "docs" / "analytics"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


def made() -> dict[str, Any]:
    """Make the schemas of the events: every field is there, and no other."""
    found = {}
    for name, kind in (("response", ResponseEvent), ("fault", FaultEvent)):
        schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
        schema["properties"]["requestTimestamp"]["pattern"] = TIME
        schema["required"] = sorted(schema["properties"])
        schema["additionalProperties"] = False
        schema["description"] = inspect.cleandoc(schema["description"])
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name}
        found[name] = head | {key: schema[key] for key in sorted(schema) if key != "title"}
    return found


def validate(event: Any) -> None:
    """Hold an event against the schema in docs/analytics for its type."""
    text = (FOLDER / f"{event['eventType']}.schema.json").read_bytes()
    Draft202012Validator(msgspec.json.decode(text)).validate(event)
