"""The operations of the form: the text changes where it must, and the form shows it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trio_gw.config.project import load
from trio_gw.config.text_edit import NotEditableError
from trio_gw.portal.editing import operations, project_form
from trio_gw.portal.editing.draft_files import BadFilesError, DraftFiles, check_files
from trio_gw.portal.editing.operations import Operation

SAMPLE = Path(__file__).parents[3] / "apis/Echo-1.0.0"
FILES = {name: (SAMPLE / name).read_text() for name in ("api.yaml", "Definitions/asyncapi.yaml")}
THREE = """\
asyncapi: 3.0.0
info: {title: T, version: 1.0.0}
channels:
  room: # the room
    address: /rooms/{id}
    parameters:
      id: {}
operations:
  # what clients send
  receiveRoom:
    action: receive
    channel: {$ref: '#/channels/room'}
  sendRoom:
    action: send
    channel:
      $ref: '#/channels/room'
"""
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def edited(files: dict[str, str], *done: dict[str, Any]) -> DraftFiles:
    held = DraftFiles(files)
    operations.apply(held, msgspec.convert(list(done), list[Operation]))
    return held


def lines(before: dict[str, str], after: DraftFiles) -> list[str]:
    """Return the changed lines of all files, with - and +."""
    found: list[str] = []
    for path, text in after.texts.items():
        made = difflib.unified_diff(
            before.get(path, "").splitlines(), text.splitlines(), n=0, lineterm=""
        )
        found += [line for line in made if not line.startswith(("---", "+++", "@@"))]
    return found


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        (
            {"op": "general", "name": "Echo2", "default_version": True},
            [
                *("-  name: Echo", "+  name: Echo2"),
                *("-  isDefaultVersion: false", "+  isDefaultVersion: true"),
            ],
        ),
        (
            {"op": "topic", "name": "/plain", "scopes": ["a"], "tier": "Gold"},
            [
                *("-    publish: {}", "+    publish:", "+      x-scopes: [a]"),
                "+      x-throttling-tier: Gold",
            ],
        ),
        (
            {"op": "topic", "name": "/plain", "secured": False, "max_message": 10},
            [
                *("-    publish: {}", "+    publish:", "+      x-auth-type: None"),
                "+      x-trio-gw-max-message: 10",
            ],
        ),
        ({"op": "topic", "name": "/admin", "secured": True, "tier": ""}, []),
        (
            {"op": "topic", "name": "/admin", "scopes": []},
            ["-    publish:", "-      x-scopes:", "-        - echo:admin", "+    publish: {}"],
        ),
        (
            {"op": "topic", "name": "/rooms/{roomId}", "direction": "both"},
            ["+    subscribe: {}"],
        ),
        (
            {"op": "rename_topic", "name": "/rooms/{roomId}", "to": "/rooms/{id}"},
            [
                *("-  /rooms/{roomId}:", "+  /rooms/{id}:", "-      roomId:", "+      id:"),
                "-      x-uri-mapping: /rooms?room={uri.var.roomId}",
                "+      x-uri-mapping: /rooms?room={uri.var.id}",
            ],
        ),
        (
            {"op": "add_topic", "name": "/a/{b}", "direction": "receive"},
            [
                *("+  /a/{b}:", "+    parameters:", "+      b:", "+        schema:"),
                *("+          type: string", "+    subscribe:"),
                "+      x-trio-gw-pass-path: true",
            ],
        ),
        (
            {"op": "endpoints", "side": "production", "urls": ["ws://h:1"], "failovers": []},
            [
                "-      url: ws://localhost:2360    # the embedded echo backend of"
                " `trio-gw run --echo`",
                "+      url: ws://h:1    # the embedded echo backend of `trio-gw run --echo`",
            ],
        ),
        (
            {"op": "calling", "side": "production", "timeout": 5000, "retries": 2},
            ["+      config:", '+        actionDuration: "5000"', '+        retryTimeOut: "2"'],
        ),
        (
            {"op": "scopes", "scopes": {"echo:admin": "talk", "b": "c"}},
            [
                "-            echo:admin: talk on the admin topic",
                "+            echo:admin: talk",
                "+            b: c",
            ],
        ),
        (
            {"op": "deployments", "deployments": [{"environment": "EU", "vhost": "eu.test"}]},
            [
                *("+type: deployment_environments", "+version: v4.1.0", "+data:"),
                *("+  - deploymentEnvironment: EU", "+    deploymentVhost: eu.test"),
            ],
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_text_changes_where_it_must(operation: dict[str, Any], changed: list[str]) -> None:
    after = edited(FILES, operation)
    found = lines(FILES, after)
    if operation["op"] == "rename_topic":
        assert sorted(found) == sorted(changed)
    else:
        assert found == changed
    held = {path: text.encode() for path, text in after.texts.items()}
    assert load(held, "x").project is not None


def test_the_form_shows_what_was_set() -> None:
    after = edited(
        FILES,
        {"op": "general", "context": "/c", "version": "2.0", "tags": ["a"], "tier": "Gold"},
        {"op": "security", "token_header": "X-Token", "mutual_tls": "required", "secured": False},
        {"op": "cors", "own": True, "origins": ["https://a.test"], "credentials": True},
        {"op": "endpoints", "side": "sandbox", "urls": ["ws://s:1", "ws://s:2"]},
        {"op": "endpoints", "side": "production", "urls": ["wss://p:1"], "failovers": ["ws://q:1"]},
        {"op": "calling", "side": "sandbox", "timeout": 9000},
        {"op": "credential", "side": "production", "username": "u", "password": "p:w"},
        {"op": "certificate", "endpoint": "wss://p:1", "name": "../x y.crt", "pem": PEM},
        {
            "op": "topic",
            "name": "/rooms/{roomId}",
            "mapping": "",
            "pass_path": True,
            "plain_http": True,
            "parameter": {"name": "roomId", "description": "a room", "values": ["a", "b"]},
        },
        {"op": "remove_topic", "name": "/plain"},
    )
    form = project_form.read(after)
    assert form.off == {}
    assert form.api is not None
    assert (form.api.context, form.api.version, form.api.tags) == ("/c", "2.0", ("a",))
    assert (form.api.tier, form.api.token_header) == ("Gold", "X-Token")
    assert (form.api.mutual_tls, form.api.cors_origins) == ("required", ("https://a.test",))
    assert form.api.sandbox.urls == ("ws://s:1", "ws://s:2")
    assert (form.api.sandbox.timeout, form.api.sandbox.retries) == (9000, None)
    assert form.api.production.failovers == ("ws://q:1",)
    assert (form.api.production.username, form.api.production.has_password) == ("u", True)
    assert "p:w" not in msgspec.json.encode(form).decode()
    assert form.topics is not None
    room, admin = form.topics
    assert (room.mapping, room.pass_path, room.plain_http) == ("", True, True)
    assert (room.secured, admin.secured) == (False, False)
    assert room.parameters[0].values == ("a", "b")
    assert after.texts["Endpoint-certificates/x-y.pem"] == PEM
    loaded = load({path: text.encode() for path, text in after.texts.items()}, "x")
    assert [each.what for each in loaded.problems if "certificate" not in each.what] == []
    back = edited(
        after.texts,
        {"op": "security", "mutual_tls": "ignored", "secured": True},
        {"op": "cors", "own": False},
        {"op": "credential", "side": "production"},
    )
    form = project_form.read(back)
    assert form.api is not None
    assert (form.api.mutual_tls, form.api.cors) == ("ignored", False)
    assert form.api.production.username == ""
    assert "p:w" not in back.texts["api.yaml"]


def test_asyncapi_3() -> None:
    files = {**FILES, "Definitions/asyncapi.yaml": THREE}
    after = edited(
        files,
        {"op": "topic", "name": "/rooms/{id}", "scopes": ["a"], "secured": False},
        {"op": "add_topic", "name": "/new-one", "direction": "both"},
        {"op": "rename_topic", "name": "/rooms/{id}", "to": "/rooms/{key}"},
    )
    text = after.texts["Definitions/asyncapi.yaml"]
    assert "room: # the room" in text
    assert "# what clients send" in text
    form = project_form.read(after)
    assert form.topics is not None
    assert [(each.name, each.direction, each.scopes, each.secured) for each in form.topics] == [
        ("/rooms/{key}", "both", ("a",), False),
        ("/new-one", "both", (), True),
    ]
    loaded = load({path: each.encode() for path, each in after.texts.items()}, "x").project
    assert loaded is not None
    assert [each.name for each in loaded.topics] == ["/rooms/{key}", "/new-one"]
    gone = edited(
        after.texts,
        {"op": "topic", "name": "/new-one", "direction": "receive"},
        {"op": "remove_topic", "name": "/rooms/{key}"},
    )
    form = project_form.read(gone)
    assert form.topics is not None
    assert [(each.name, each.direction, each.pass_path) for each in form.topics] == [
        ("/new-one", "receive", True)
    ]
    assert "receiveRoom" not in gone.texts["Definitions/asyncapi.yaml"]


def test_a_file_that_the_form_cannot_change_says_why() -> None:
    broken = {"api.yaml": "a: &x b\nb: [", "Definitions/asyncapi.yaml": "{}"}
    form = project_form.read(DraftFiles(broken))
    assert form.api is None
    assert form.off["api"].startswith("line ")
    with pytest.raises(NotEditableError):
        edited(broken, {"op": "general", "name": "x"})
    for operation in (
        {"op": "topic", "name": "/none", "scopes": []},
        {"op": "add_topic", "name": "/plain"},
        {"op": "remove_topic", "name": "/none"},
        {"op": "credential", "side": "sandbox", "username": "u"},
        {"op": "calling", "side": "sandbox", "timeout": 1},
        {"op": "certificate", "endpoint": "wss://h", "name": "k", "pem": "no"},
    ):
        with pytest.raises(NotEditableError):
            edited(FILES, operation)
    for unknown in ({"op": "shell"}, {"op": "general", "path": "x"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert([unknown], list[Operation])


@pytest.mark.parametrize(
    "path",
    [
        *("../api.yaml", "/api.yaml", "a/../api.yaml", "a//api.yaml", "a\\api.yaml", "C:/api.yaml"),
        *("api.yaml\0", "./api.yaml", "notes.txt", ".git/api.yaml", "a/b/c/d/e/f/api.yaml", ""),
        *(" /api.yaml", "a\u202e/api.yaml", "x" * 200 + "/api.yaml"),
    ],
)
def test_paths_that_no_project_has(path: str) -> None:
    with pytest.raises(BadFilesError):
        check_files({path: "x"})


def test_the_size_of_the_files_is_bounded() -> None:
    for files in (
        {},
        {f"a{number}/api.yaml": "" for number in range(65)},
        {"api.yaml": "x" * ((2 << 20) + 1)},
        {"api.yaml": "\ud800"},
    ):
        with pytest.raises(BadFilesError):
            check_files(files)
    check_files(FILES)
