"""The zip of artifacts: what is deployed where, and which faults concern one API only."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.apim import zipped
from support.examples import examples
from trio_gw.control_plane import artifacts
from trio_gw.control_plane.artifacts import ReadArtifacts, read_artifacts
from trio_gw.control_plane.state import Artifact
from trio_gw.errors import UnusableError

A = "6c1f0e2e-0001-4c5e-9a10-000000000001"
B = "6c1f0e2e-0001-4c5e-9a10-000000000002"
INNER = zipped({"Chat-1.0.0/api.yaml": b"data: {}"})
DIGEST = hashlib.sha256(INNER).hexdigest()


class MemoryStore:
    """Keeps zips in memory, and remembers what was put."""

    def __init__(self) -> None:
        self.zips: dict[str, bytes] = {}
        self.puts = 0

    def has(self, digest: str) -> bool:
        return digest in self.zips

    def put(self, digest: str, data: bytes) -> None:
        self.puts += 1
        self.zips[digest] = data


def place(name: str = "Default", vhost: str = "localhost", at: int = 5) -> dict[str, Any]:
    return {"name": name, "vhost": vhost, "type": "hybrid", "deployedTimeStamp": at}


def deployment(file: str, *places: dict[str, Any]) -> dict[str, Any]:
    return {"apiFile": file, "organizationId": "carbon.super", "environments": list(places)}


def outer(*deployments: Any, **more: bytes) -> bytes:
    document = {"type": "deployments", "data": {"deployments": deployments}}
    files = {"deployments.json": json.dumps(document).encode()}
    files |= {name.replace("__", "."): data for name, data in more.items()}
    return zipped(files)


def with_files(deployments: list[Any], files: dict[str, bytes]) -> bytes:
    document = {"data": {"deployments": deployments}}
    return zipped({"deployments.json": json.dumps(document).encode(), **files})


def read(data: bytes, store: MemoryStore | None = None) -> ReadArtifacts:
    return read_artifacts(io.BytesIO(data), store or MemoryStore())


def test_one_api() -> None:
    store = MemoryStore()
    data = with_files([deployment(f"{A}-r1.zip", place())], {f"{A}-r1.zip": INNER})
    found = read(data, store)
    placements = (("Default", "localhost"),)
    assert found.artifacts == (Artifact(A, "r1", DIGEST, placements, "carbon.super"),)
    assert (found.problems, found.broken, found.deployed_at) == (
        (),
        frozenset(),
        {(A, "Default"): 5},
    )
    assert store.zips == {DIGEST: INNER}
    read(data, store)
    assert store.puts == 1  # what is there is not written again


def test_not_all_problems_are_shown() -> None:
    rows = [deployment(f"{A}-r{number}.zip", place()) for number in range(150)]
    problems = read(with_files(rows, {})).problems
    assert len(problems) == artifacts.MAX_PROBLEMS + 1
    assert problems[-1].what == "50 more problems are not shown"


def test_names_in_another_case_of_letters() -> None:
    data = with_files([deployment(f"{A}-R1.ZIP", place())], {f"{A.upper()}-r1.zip": INNER})
    (artifact,) = read(data).artifacts
    assert (artifact.uuid, artifact.revision) == (A, "R1")


def test_the_revision_may_be_any_text() -> None:
    revision = "9d7b0e2e-0001-4c5e-9a10-0000000000aa"
    file = f"{A}-{revision}.zip"
    (artifact,) = read(with_files([deployment(file, place())], {file: INNER})).artifacts
    assert (artifact.uuid, artifact.revision) == (A, revision)


def test_the_oldest_deployment_comes_first() -> None:
    files = {f"{A}-r{number}.zip": INNER for number in range(4)}
    rows = [deployment(f"{A}-r{n}.zip", place(f"E{n}", at=at)) for n, at in enumerate([3, 1, 4, 2])]
    found = read(with_files(rows, files))
    assert [each.revision for each in found.artifacts] == ["r1", "r3", "r0", "r2"]
    assert found.deployed_at == {(A, "E0"): 3, (A, "E1"): 1, (A, "E2"): 4, (A, "E3"): 2}


def test_a_broken_api_leaves_the_others() -> None:
    rows = [
        deployment(f"{A}-r1.zip", place()),
        deployment(f"{B}-r1.zip", place()),
        {"apiFile": "x.zip", "environments": [place()]},
        {"apiFile": f"{B}-r2.zip", "environments": []},
        {"apiFile": 7},
        "text",
    ]
    found = read(with_files(rows, {f"{B}-r1.zip": INNER}))
    assert [each.uuid for each in found.artifacts] == [B]
    assert found.broken == {A}
    texts = "\n".join(str(problem) for problem in found.problems)
    assert f"{A}-r1.zip: is missing in the zip of API Manager" in texts
    assert "`apiFile` is not <API>-<revision>.zip" in texts
    assert "`environments` is empty" in texts
    assert "`environments` is not a list" not in texts
    assert "it is not an object" in texts


def damaged(data: bytes) -> bytes:
    """Damage the content of the inner zip within the outer one, which stores it."""
    return data.replace(INNER, bytes([INNER[0] ^ 1]) + INNER[1:])


def test_an_inner_zip_with_a_wrong_checksum() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        rows = [deployment(f"{A}-r1.zip", place()), deployment(f"{B}-r1.zip", place())]
        target.writestr("deployments.json", json.dumps({"data": {"deployments": rows}}))
        target.writestr(f"{B}-r1.zip", zipped({"other": b"1"}))
        target.writestr(f"{A}-r1.zip", INNER)
    found = read(damaged(out.getvalue()))
    assert [each.uuid for each in found.artifacts] == [B]
    assert found.broken == {A}
    assert "the checksum is wrong" in str(found.problems[0])


def test_an_inner_zip_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_PROJECT", 1 << 20)
    rows = [deployment(f"{A}-r1.zip", place())]
    found = read(with_files(rows, {f"{A}-r1.zip": bytes((1 << 20) + 1)}))
    assert found.broken == {A}
    assert "is larger than 1 MiB" in str(found.problems[0])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b"not a zip at all", "is not a zip file"),
        (with_files([], {})[:-10], "truncated"),
        (zipped({"other.json": b"{}"}), "deployments.json: is missing"),
        (zipped({"deployments.json": b"{"}), "deployments.json: it is not valid JSON"),
        (zipped({"deployments.json": b"[]"}), "deployments.json: it is not an object"),
        (zipped({"deployments.json": b'{"data":{"deployments":5}}'}), "is not a list"),
        (zipped({"a.zip": b"1", "A.ZIP": b"2"}), "is in the zip twice"),
    ],
)
def test_a_zip_that_cannot_be_used(data: bytes, text: str) -> None:
    with pytest.raises(UnusableError, match=text):
        read(data)


def test_a_zip_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(UnusableError, match="unpacks to more than 0 GiB"):
        read(with_files([], {"bomb": bytes(2 << 20)}))


@pytest.mark.parametrize("data", [b'{"data":{}}', b'{"data":null}', b"{}"])
def test_nothing_is_deployed(data: bytes) -> None:
    assert read(zipped({"deployments.json": data})).artifacts == ()


def environment(production: Any, sandbox: Any = None) -> dict[str, Any]:
    return {"envId": "e", "configs": {"productionEndpoint": production, "sandboxEndpoint": sandbox}}


def test_backends_of_environments() -> None:
    overrides = {
        A.upper(): {"Default": environment("ws://d", "ws://s"), "Edge": environment("ws://e")},
        B: {"Default": {"envId": "e"}, "Edge": 5},
    }
    files = {
        f"{A}-r1.zip": INNER,
        f"{B}-r1.zip": INNER,
        "env_properties.json": json.dumps({"apis": overrides}).encode(),
    }
    places = [place(), place("Edge", "edge"), place("Far", "LocalHost"), place("More", "more")]
    rows = [deployment(f"{A}-r1.zip", *places), deployment(f"{B}-r1.zip", place())]
    found = read(with_files(rows, files))
    assert [
        (each.uuid, each.placements, each.production, each.sandbox) for each in found.artifacts
    ] == [
        (A, (("Default", "localhost"), ("Far", "localhost")), "ws://d", "ws://s"),
        (A, (("Edge", "edge"),), "ws://e", ""),
        (A, (("More", "more"),), "", ""),
        (B, (("Default", "localhost"),), "", ""),
    ]
    assert f"the backends of API {B} are skipped" in str(found.problems[0])


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"apis":5}'])
def test_backends_that_cannot_be_read(data: bytes) -> None:
    files = {f"{A}-r1.zip": INNER, "env_properties.json": data}
    found = read(with_files([deployment(f"{A}-r1.zip", place())], files))
    assert len(found.artifacts) == 1
    assert "the backends of the projects are used" in str(found.problems[0])


GOOD = with_files([deployment(f"{A}-r1.zip", place())], {f"{A}-r1.zip": INNER})


@given(at=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=examples(2000), deadline=None)
def test_a_changed_octet_raises_nothing_else(at: int, value: int, cut: bool) -> None:
    data = GOOD[:at] if cut else GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    try:
        found = read(data)
    except UnusableError:
        return
    assert len(found.artifacts) + len(found.problems) >= 1
