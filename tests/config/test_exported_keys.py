"""Every key of an exported api.yaml is read, warned about, or listed as meaningless here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trio_gw.config import apiyaml, backends, cors, document, exported_keys
from trio_gw.config.findings import Findings
from trio_gw.config.project import load
from trio_gw.errors import UnusableError
from trio_gw.feed.load_folder import load_once

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WIDE = ROOT / "tests/golden/format-4.2-exported-keys/project"
EXPORTS = sorted(
    path
    for folder in ("apis", "tests/golden")
    for path in (ROOT / folder).rglob("api.*")
    if path.suffix in (".yaml", ".json")
)


def fields(*structs: Any) -> set[str]:
    return {name for struct in structs for name in struct.__struct_encode_fields__}


# By their parent key.
READ = {
    "data": fields(apiyaml._Data),
    "operations": {"target", "verb", "throttlingPolicy"},
    "corsConfiguration": fields(cors.CorsConfiguration),
    "endpointConfig": fields(backends.EndpointConfig),
    "endpoint": fields(backends._EndpointTarget),
    "config": fields(backends._Config),
    "endpoint_security": fields(backends._Security),
}


def keys(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """List each key that can have a meaning, with its parent key."""
    yield from (("data", key) for key in data)
    for each in data.get("operations") or ():
        yield from (("operations", key) for key in each)
    yield from (("corsConfiguration", key) for key in data.get("corsConfiguration") or ())
    config = data.get("endpointConfig")
    for key, value in (config if isinstance(config, dict) else {}).items():
        yield "endpointConfig", key
        if key == "endpoint_security":
            sides = [side for side in value.values() if isinstance(side, dict)]
            yield from ((key, each) for side in sides for each in side)
        elif key.endswith(("_endpoints", "_failovers")):
            for target in value if isinstance(value, list) else [value]:
                yield from (("endpoint", each) for each in target or ())
                yield from (("config", each) for each in (target or {}).get("config") or ())


def unknown(data: dict[str, Any]) -> set[tuple[str, str]]:
    """Find the keys in none of the three lists."""
    found = set()
    for below, key in keys(data):
        known = READ.get(below, set()) | exported_keys.MEANINGLESS.get(below, set())
        known |= exported_keys.WARNED.keys() if below == "data" else set()
        if key.casefold() not in {each.casefold() for each in known}:
            found.add((below, key))
    return found


def data_of(path: Path) -> dict[str, Any]:
    try:
        found = document.read(path.read_bytes(), str(path)).value(("data",))
    except UnusableError:
        return {}
    return found if isinstance(found, dict) else {}


def test_every_key_of_every_export_is_in_one_of_the_lists() -> None:
    assert len(EXPORTS) > 80
    found = {(path, key) for path in EXPORTS for key in unknown(data_of(path))}
    wrong = {(path.parts[-3], key) for path, key in found}
    # The one case about unknown keys.
    assert {name for name, _ in wrong} <= {"format-2.1-unknown-keys"}, wrong


def test_an_unknown_key_is_found() -> None:
    data = {"name": "x", "newLimit": 1, "endpointConfig": {"newAlgo": 1}}
    assert unknown(data) == {("data", "newLimit"), ("endpointConfig", "newAlgo")}


def test_no_key_is_in_two_lists() -> None:
    for below, words in exported_keys.MEANINGLESS.items():
        assert not words & READ.get(below, set())
    assert not exported_keys.WARNED.keys() & READ["data"]
    assert not exported_keys.WARNED.keys() & exported_keys.MEANINGLESS["data"]


def test_the_page_lists_what_has_no_meaning() -> None:
    page = (ROOT / "docs/compatibility.md").read_text()
    section = page.partition("without a meaning here")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([^`]+)`", section))
    assert set().union(*exported_keys.MEANINGLESS.values()) <= listed
    assert exported_keys.WARNED.keys() <= listed


def test_each_key_that_matters_is_warned_about_once() -> None:
    files = {
        str(path.relative_to(WIDE)): path.read_bytes() for path in WIDE.rglob("*") if path.is_file()
    }
    loaded = load(files, "wide")
    assert loaded.project is not None
    warned = [each.what.split("`")[1] for each in loaded.problems]
    assert sorted(warned) == sorted(exported_keys.WARNED)


def test_a_link_out_of_the_folder_says_how_to_release(tmp_path: Path) -> None:
    """The watched folder itself may be a link that selects a release; the hint has to say so."""
    (tmp_path / "releases/1").mkdir(parents=True)
    (tmp_path / "apis").mkdir()
    (tmp_path / "apis/Chat").symlink_to("../releases/1")
    _, (problem,) = load_once(tmp_path / "apis", label="apis")
    assert "outside the watched folder" in problem.what
    assert "make the whole watched folder a link" in problem.hint


@pytest.mark.parametrize(
    "text",
    [
        "maxTps: {}",
        "maxTps: null",
        "keyManagers: [all]",
        "keyManagers: []",
        "audiences: [all]",
        "transport: [http, https]",
        "transport: []",
        "apiKeyHeader: ApiKey",
        "enableSchemaValidation: false",
        "apiPolicies: {request: [], response: [], fault: []}",
        "mediationPolicies: []",
        "threatProtectionPolicies: null",
        "advertiseInfo: {advertised: false, vendor: WSO2}",
    ],
)
def test_what_an_export_says_by_default_is_nothing_to_warn_about(text: str) -> None:
    findings = Findings(document.read(f"data: {{{text}}}\n".encode(), "api.yaml"))
    exported_keys.check(findings.document.value(("data",)), findings)
    assert findings.problems == ()
