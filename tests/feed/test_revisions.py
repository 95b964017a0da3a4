"""The index of deployments in its formats, and the revisions that leave it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import msgspec
import pytest

from support.projects import api
from trio_gw.config.api import ApiProject
from trio_gw.config.placement import Placement
from trio_gw.errors import UnusableError
from trio_gw.feed import revision_store
from trio_gw.feed.deployment_index import (
    ApiState,
    DeploymentIndex,
    NewerError,
    Revision,
    decode,
    encode,
)
from trio_gw.feed.deployment_store import INDEX, DeploymentStore

if TYPE_CHECKING:
    from pathlib import Path

HERE = (Placement("Default", "localhost"),)
CHAT = ApiProject("chat", "chat-id", "Chat", "1.0.0", "/chat", ())
# As the version before revisions wrote it.
OLD = b"""{
 "serial": 3,
 "entries": [
  {
   "file": "Chat_1.0.0-3-ab12cd34.zip",
   "organization": "carbon.super",
   "id": "chat-id",
   "title": "Chat:1.0.0",
   "where": [
    [
     "Default",
     "localhost"
    ]
   ]
  }
 ],
 "hidden": []
}
"""


def deployed(store: DeploymentStore, index: DeploymentIndex, number: int) -> DeploymentIndex:
    """Deploy a revision as the gateway does, without its checks."""
    with store.locked(1.0):
        files = {"api.yaml": json.dumps(api("Chat", "/chat", f"ws://{number}")).encode()}
        name = store.store(files, "Chat:1.0.0", index.serial + 1)
        after = index.deployed(name, CHAT, HERE, Revision(number, at=number, user="ada"))
        left = {entry.file for entry in after.entries}
        store.commit(after, [entry for entry in index.entries if entry.file not in left])
        store.discard([entry.file for entry in index.entries if entry.file not in left])
    return store.read()


def test_an_index_of_the_version_before() -> None:
    index = decode(OLD)
    assert index.entries[0].revision.number == 0
    assert index.states == ()
    # What an older gateway does not know is not written as long as it is not used.
    assert set(json.loads(encode(index))) == {"serial", "entries", "hidden"}
    blocked = index.with_state(ApiState("carbon.super", "chat-id", "Chat:1.0.0", "BLOCKED", 7))
    assert json.loads(encode(blocked))["format"] == 2
    assert decode(encode(blocked)).states == blocked.states


def test_an_index_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    newer = b'{"format": 3, "serial": 1, "entries": {"other": "form"}, "more": 1}'
    with pytest.raises(NewerError, match="was written by a newer gateway: format 3, not 2"):
        decode(newer)
    (tmp_path / INDEX).write_bytes(newer)
    store = DeploymentStore(tmp_path, "deployed")
    with pytest.raises(UnusableError) as caught:
        store.read()
    assert caught.value.problems[0].hint.startswith("run that version again")
    with pytest.raises(UnusableError):
        store.sweep()
    assert (tmp_path / INDEX).read_bytes() == newer


def test_the_latest_are_kept_and_the_rest_is_removed(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path, "deployed", keep=3)
    index = DeploymentIndex()
    for number in range(1, 7):
        index = deployed(store, index, number)
    found = store.revisions.revisions(index, "carbon.super", "chat-id")
    assert [one.revision.number for one in found] == [6, 5, 4]
    assert [one.live for one in found] == [("localhost",), (), ()]
    (folder,) = (tmp_path / "history").iterdir()
    assert folder.name.startswith("chat-id-")
    assert len(list(folder.glob("*.zip"))) <= 3
    path = store.revisions.path(index, "carbon.super", "chat-id", 5)
    assert path is not None
    assert path.is_file()
    assert store.revisions.path(index, "carbon.super", "chat-id", 1) is None
    assert store.revisions.revisions(index, "other", "chat-id") == []

    # What a crash left in the folder goes with the next change; a sweep keeps the rest.
    (folder / ".coming-0123").write_text("x")
    (folder / "stray.zip").write_text("x")
    index = deployed(store, index, 7)
    names = {one.name for one in folder.iterdir()}
    assert not {".coming-0123", "stray.zip"} & names
    store.sweep()
    assert {one.name for one in folder.iterdir()} == names
    store.sweep(forget=True)
    assert not (tmp_path / "history").exists()


def test_a_zip_of_the_version_before_becomes_a_revision(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path, "deployed")
    (tmp_path / "Chat_1.0.0-3-ab12cd34.zip").write_bytes(b"PK")
    (tmp_path / INDEX).write_bytes(OLD)
    index = deployed(store, store.read(), 1)
    found = store.revisions.revisions(index, "carbon.super", "chat-id")
    assert [(one.revision.number, one.revision.user) for one in found] == [(1, "ada"), (0, "")]


def test_what_is_damaged_or_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = DeploymentStore(tmp_path, "deployed")
    index = deployed(store, deployed(store, DeploymentIndex(), 1), 2)
    (folder,) = (tmp_path / "history").iterdir()
    (folder / "revisions.json").write_text('{"organization": 1')
    (tmp_path / index.entries[0].file).unlink()
    with caplog.at_level(logging.WARNING):
        found = store.revisions.revisions(index, "carbon.super", "chat-id")
        index = deployed(store, index, 3)
    assert [one.revision.number for one in found] == [2]
    assert "is damaged" in caplog.text
    assert "is missing, so it is not kept as a revision" in caplog.text
    found = store.revisions.revisions(index, "carbon.super", "chat-id")
    assert [one.revision.number for one in found] == [3]


def test_the_folders_of_apis_that_are_gone_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision_store, "MOST_APIS", 2)
    store = DeploymentStore(tmp_path, "deployed")
    index = deployed(store, deployed(store, DeploymentIndex(), 1), 2)
    for name in ("a", "b", "c"):
        (tmp_path / "history" / name).mkdir()
    store.revisions.limit(index)
    left = {one.name for one in (tmp_path / "history").iterdir()}
    assert len(left) == 2
    assert any(name.startswith("chat-id-") for name in left)


def test_states_follow_the_api() -> None:
    state = ApiState("carbon.super", "chat-id", "Chat:1.0.0", "RETIRED", 7, "ada")
    index = DeploymentIndex().with_state(state)
    assert index.state_of("carbon.super", "chat-id") == state
    anew = index.deployed("x.zip", CHAT, HERE, Revision(1, at=9, user="bob"))
    found = anew.state_of("carbon.super", "chat-id")
    assert found == msgspec.structs.replace(state, state="CREATED", at=9, user="bob")
    gone = anew.undeployed("Chat:1.0.0", lambda _: True, ())
    assert gone.states == ()
    kept = anew.undeployed("Chat:1.0.0", lambda _: True, (), lambda _: True)
    assert len(kept.states) == 1
