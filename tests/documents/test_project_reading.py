"""The files of a served API are read again from where it came from."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import msgspec
import pytest

from support.described import API, CHAT, project_of
from trio_gw.config.settings import Settings
from trio_gw.documents import definition_cache
from trio_gw.documents.definition_cache import definition_of
from trio_gw.documents.project_reading import read_documents, read_files

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, definition: str = CHAT) -> None:
    (folder / "Definitions").mkdir(parents=True, exist_ok=True)
    (folder / "api.yaml").write_bytes(API)
    (folder / "Definitions" / "asyncapi.yaml").write_text(definition)
    (folder / "README.md").write_text("not read")


def test_a_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path / "apis" / "Chat")
    found = read_documents(Settings(), tmp_path, project_of(CHAT))
    assert set(found.files) == {"api.yaml", "Definitions/asyncapi.yaml"}
    assert found.path == "Definitions/asyncapi.yaml"
    assert found.definition is not None
    assert (found.problems, found.differs) == ((), False)


def test_a_zip_is_read(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("Chat/api.yaml", API)
        file.writestr("Chat/Definitions/asyncapi.yaml", CHAT)
    (tmp_path / "deployed").mkdir()
    (tmp_path / "deployed" / "Chat-1.zip").write_bytes(packed.getvalue())
    project = msgspec.structs.replace(project_of(CHAT), folder="deployed/Chat-1.zip")
    found = read_documents(Settings(), tmp_path, project)
    assert found.path == "Chat/Definitions/asyncapi.yaml"
    assert found.definition is not None


@pytest.mark.parametrize(
    "definition", ["asyncapi: [\n", "asyncapi: 2.6.0\nchannels: {/x: {publish: {}}}\n"]
)
def test_files_that_are_not_what_is_served_say_so(tmp_path: Path, definition: str) -> None:
    write(tmp_path / "apis" / "Chat", definition)
    assert read_documents(Settings(), tmp_path, project_of(CHAT)).differs


def test_a_project_whose_files_are_gone_has_none(tmp_path: Path) -> None:
    (tmp_path / "apis").mkdir()
    project = project_of(CHAT)
    found = read_documents(Settings(), tmp_path, project)
    assert (found.files, found.definition) == ({}, None)
    assert found.problems
    found = read_documents(
        Settings(), tmp_path, msgspec.structs.replace(project, folder="control_plane/Chat")
    )
    assert (found.files, found.definition) == ({}, None)


@pytest.mark.parametrize(
    "name", ["apis/../secret", "apis/.", "apis/", "../x", "deployed/../apis/Chat"]
)
def test_no_folder_name_leads_elsewhere(tmp_path: Path, name: str) -> None:
    write(tmp_path / "secret")
    (tmp_path / "apis").mkdir()
    (tmp_path / "deployed").mkdir()
    assert not read_files(Settings(), tmp_path, name)[0]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition_cache, "MOST_VALUES", 300)
    first = definition_of(CHAT.encode(), "a")
    assert definition_of(CHAT.encode(), "b").root is first.root
    for number in range(10):
        definition_of(f"{CHAT}# {number}\n".encode(), "x")
    assert definition_of(CHAT.encode(), "a").root is not first.root
    assert definition_cache._values() <= 300


def test_a_definition_with_too_many_values_is_shown_without_schemas() -> None:
    many = ", ".join(f"p{i}: {{a: b}}" for i in range(60_000))
    text = CHAT.replace("    Said:\n", f"    Big: {{properties: {{{many}}}}}\n    Said:\n")
    found = definition_of(text.encode(), "x")
    assert not found.whole
    assert "/rooms/{room}" in found.channels
