"""`x-trio-gw-inspect` and `x-trio-gw-max-message`: the innermost one takes effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.projects import api, asyncapi
from trio_gw.config import project
from trio_gw.config.api import Inspection
from trio_gw.config.inspection import DEFAULT_MESSAGE, LARGEST_MESSAGE, LARGEST_RELAYED

INSPECT, MAX = "x-trio-gw-inspect", "x-trio-gw-max-message"


def load(root: Any, channel: Any, operation: Any, version: int = 2) -> project.LoadedProject:
    if version == 2:
        definition: dict[str, Any] = asyncapi({"/t": {**channel, "publish": operation}})
    else:
        definition = {
            "asyncapi": "3.0.0",
            "info": {"title": "T", "version": "1"},
            "channels": {"t": {"address": "/t", **channel}},
            "operations": {
                "o": {"action": "receive", "channel": {"$ref": "#/channels/t"}, **operation}
            },
        }
    files = {
        "api.yaml": json.dumps(api("T", "/t", "ws://h:1")).encode(),
        "Definitions/asyncapi.yaml": json.dumps({**definition, **root}).encode(),
    }
    return project.load(files, "p")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("root", "channel", "operation", "expected"),
    [
        ({}, {}, {}, None),
        ({INSPECT: True}, {}, {}, Inspection(DEFAULT_MESSAGE)),
        ({}, {INSPECT: True}, {}, Inspection(DEFAULT_MESSAGE)),
        ({}, {}, {INSPECT: True}, Inspection(DEFAULT_MESSAGE)),
        ({INSPECT: True}, {INSPECT: False}, {}, None),
        ({INSPECT: True, MAX: 5}, {INSPECT: False}, {INSPECT: True}, Inspection(5)),
        ({INSPECT: True, MAX: 5}, {MAX: 6}, {MAX: 7}, Inspection(7)),
        ({INSPECT: True}, {MAX: LARGEST_MESSAGE}, {}, Inspection(LARGEST_MESSAGE)),
        ({MAX: 5}, {}, {}, None),
    ],
)
def test_the_nearest_counts(
    root: Any, channel: Any, operation: Any, expected: Inspection | None, version: int
) -> None:
    loaded = load(root, channel, operation, version)
    assert loaded.project is not None, loaded.problems
    assert loaded.project.topics[0].inspection == expected
    assert not loaded.problems


@pytest.mark.parametrize("size", [0, -1, LARGEST_MESSAGE + 1])
def test_a_size_out_of_bounds(size: int) -> None:
    loaded = load({}, {}, {INSPECT: True, MAX: size})
    assert loaded.project is None
    (problem,) = loaded.problems
    assert problem.what == f"`{MAX}: {size}` is not a size from 1 to {LARGEST_MESSAGE} bytes"
    assert problem.hint


@pytest.mark.parametrize(("key", "value"), [(INSPECT, "yes"), (INSPECT, 1), (MAX, "1 MB")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_another_type(key: str, value: object, place: int) -> None:
    places: list[dict[str, Any]] = [{}, {}, {}]
    places[place] = {key: value}
    loaded = load(places[0], places[1], places[2])
    assert loaded.project is None
    assert any(key in problem.what for problem in loaded.problems), loaded.problems


@pytest.mark.parametrize(
    ("root", "channel", "expected"),
    [({}, {}, None), ({MAX: 5}, {}, 5), ({MAX: 5}, {MAX: 6}, 6), ({INSPECT: True}, {MAX: 6}, None)],
)
def test_a_size_where_messages_are_merely_relayed(
    root: Any, channel: Any, expected: int | None
) -> None:
    loaded = load(root, channel, {})
    assert loaded.project is not None
    assert not loaded.problems
    assert loaded.project.topics[0].max_message == expected


def test_a_relayed_size_out_of_bounds() -> None:
    assert load({}, {}, {MAX: LARGEST_RELAYED}).project is not None
    (problem,) = load({}, {}, {MAX: LARGEST_RELAYED + 1}).problems
    assert f"from 1 to {LARGEST_RELAYED} bytes" in problem.what
