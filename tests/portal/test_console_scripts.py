"""Functions of the console's scripts, in Node: comparing with a schema, lines, what is visible."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from trio_gw.portal.static_files import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import { readFileSync } from "node:fs";
import { check } from "./schema-check.js";
import { difference, hex, pretty } from "./console-detail.js";
import { visible } from "./console-log.js";
import { Trips } from "./console-trips.js";
const trips = (frames) => {
  const made = new Trips();
  for (const frame of frames) made.take(frame);
  return [made.times, made.quantile(0.5), made.quantile(0.95)];
};
const bytes = (text) => hex(new TextEncoder().encode(text));
const known = { check, difference, bytes, pretty, visible, trips };
const calls = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(calls.map(([name, ...given]) => known[name](...given))));
"""


def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


TREE = field(
    "",
    "object",
    constraints=["no other properties"],
    children=[
        field("text", "string", required=True, constraints=["minLength 1", "maxLength 5"]),
        field("n", "integer", constraints=["minimum 1", "exclusiveMaximum 9"]),
        field("kind", "string", enum=["a", "b"]),
        field("none", "string or null"),
        field("list", "array of string", children=[field("each item", "string", is_role=True)]),
        field(
            "either",
            "one of",
            children=[
                field("one of 1", "string", is_role=True),
                field("one of 2", "boolean", is_role=True),
            ],
        ),
        field("circle", "object", back="o1m1", required=False),
    ],
)
CALLS: list[tuple[list[Any], Any]] = [
    (["check", TREE, {"text": "a", "n": 8, "kind": "b", "none": None, "list": ["x"]}], []),
    (["check", TREE, {"text": "a", "either": True, "circle": 7}], []),
    (["check", TREE, {"text": "äöüß😀"}], []),
    (["check", TREE, 7], ["the message is number, not object"]),
    (["check", TREE, {}], ["text is missing"]),
    (["check", TREE, {"text": "toolong"}], ["text: maxLength 5"]),
    (["check", TREE, {"text": "a", "n": 1.5}], ["n is number, not integer"]),
    (["check", TREE, {"text": "a", "n": 9}], ["n: exclusiveMaximum 9"]),
    (["check", TREE, {"text": "a", "kind": "c"}], ["kind is none of a, b"]),
    (["check", TREE, {"text": "a", "list": [1]}], ["list[0] is number, not string"]),
    (["check", TREE, {"text": "a", "either": 1}], ["either fits none of 2 choices"]),
    (["check", TREE, {"text": "a", "more": 1}], ["more is not known"]),
    (["check", None, {"text": "a"}], []),
    (["difference", ["a", "b"], ["a", "c", "b"]], [[" ", "a"], ["+", "c"], [" ", "b"]]),
    (["difference", [], ["x"]], [["+", "x"]]),
    (["difference", ["x"], []], [["-", "x"]]),
    (["pretty", '{"a":1}'], '{\n  "a": 1\n}'),
    (["pretty", "7"], "7"),
    (["visible", "a\u202eb\u0007\t\n\u200d"], "a\\u202eb␇\t\n\u200d"),
    (["bytes", "AB\n"], "000000  41 42 0a".ljust(8 + 47) + "  AB."),
    (
        [
            "trips",
            [
                {"way": "out", "kind": "text", "size": 1, "text": "a", "at": 0},
                {"way": "out", "kind": "text", "size": 1, "text": "a", "at": 5},
                {"way": "in", "kind": "text", "size": 1, "text": "a", "at": 10},
                {"way": "in", "kind": "text", "size": 1, "text": "b", "at": 11},
                {"way": "in", "kind": "text", "size": 1, "text": "a", "at": 25},
            ],
        ],
        [[10, 20], 20, 20],
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Make all calls in one process."""
    folder: Path = tmp_path_factory.mktemp("scripts")
    for path in FOLDER.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(PROGRAM)
    done = subprocess.run(
        ["node", "run.js"],
        cwd=folder,
        input=json.dumps([call for call, _ in CALLS]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CALLS)), ids=[f"{c[0][0]}-{c[1]}"[:40] for c in CALLS])
def test_results(results: list[Any], number: int) -> None:
    assert results[number] == CALLS[number][1]
