"""`[tiers]` and `[limits]`: valid values, and the problems for invalid ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.projects import api, asyncapi
from trio_gw.config import project, tiers
from trio_gw.config.entitlements import PolicyRow
from trio_gw.config.settings_file import load
from trio_gw.config.tiers import (
    LARGEST,
    LONGEST_POLICY,
    LimitSettings,
    Tier,
    known,
    of_policy,
    period,
    size,
    spoken,
    unknown,
)
from trio_gw.errors import UnusableError
from trio_gw.feed.compile import compile_snapshots

if TYPE_CHECKING:
    from pathlib import Path


def policy(**fields: Any) -> PolicyRow:
    return PolicyRow("subscription", 1, "Gold", **fields)


def test_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("""
[tiers."5EventsPerMin"]
events = 5
per = "1m"
[tiers.3KbPerMin]
bytes = "3KB"
per = "2m"
burst = "1KB"
on_exceed = "pause"
[tiers.10PerMin]
events = 10
burst = 2
count = "publish"
on_exceed = "close"
stop_on_quota = false
[limits]
connections = 4
connections_per_api = 3
connections_per_address = 2
max_message = "64KB"
""")
    settings = load(file, {"TRIO_GW_LIMITS_CONNECTIONS_PER_APPLICATION": "1"}).settings
    assert settings.limits == LimitSettings(4, 3, 1, 2, max_message="64KB")
    found = known(settings.tiers)
    assert found["5EventsPerMin"] == Tier("5EventsPerMin", 5)
    assert found["3KbPerMin"] == Tier(
        "3KbPerMin", 3072, octets=True, per=120, burst=1024, on_exceed="pause"
    )
    assert found["10PerMin"] == Tier(
        "10PerMin", 10, burst=2, on_exceed="close", stop_on_quota=False, count="publish"
    )
    assert found["AsyncGold"] == Tier("AsyncGold", 50_000, per=86400)
    assert not found["Unlimited"].limits


T = '[tiers."t"]\n'


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        (T, 1, "tiers.t has neither events nor bytes", "events = 5"),
        (T + "events = 1\nbytes = 1", 1, "tiers.t has both events and bytes", "events = 5"),
        (T + "events = -1", 2, "tiers.t.events: -1 is not a limit", "from 1 to"),
        (T + 'bytes = "3 kilo"', 2, "tiers.t.bytes: '3 kilo' is not a number", '"3KB"'),
        (T + 'bytes = 1\nburst = "-1"', 3, "tiers.t.burst: '-1' is not a number", '"3KB"'),
        (T + "events = 1\nburst = -1", 3, "tiers.t.burst: -1 is not a number", '"3KB"'),
        (
            T + 'events = 1\nburst = "3KB"',
            3,
            "tiers.t.burst: '3KB' is not a number of events",
            "only",
        ),
        (T + "bytes = 999999999999999", 2, "tiers.t.bytes: 999999999999999 is not", '"3KB"'),
        (T + "bytes = 1.5", 2, 'tiers.t.bytes must be a whole number, or a text like "3KB"', ""),
        (T + 'events = 1\nper = "minute"', 3, "tiers.t.per: 'minute' is not a time", '"1m"'),
        (T + 'events = 1\nper = "0s"', 3, "tiers.t.per: '0s' is not a time", '"1m"'),
        (T + 'events = 1\nper = "32d"', 3, "tiers.t.per: '32d' is not a time", '"1m"'),
        (T + 'events = 1\non_exceed = "x"', 3, "tiers.t.on_exceed: 'x' is not one of", '"drop"'),
        (T + 'events = 1\ncount = "x"', 3, "tiers.t.count: 'x' is not one of", '"each"'),
        (T + "event = 1", 2, "unknown key tiers.t.event", "tiers.t.events"),
        ('[tiers."' + "x" * 65 + '"]\nevents = 1', 1, "a name has 1 to 64 bytes", "another"),
        ("[tiers]\nt = 5", 2, "tiers.t must be a table", "[tiers.t]"),
        ("tiers = 5", 1, "tiers must be a table of tables", "[tiers.NAME]"),
        ("[limits]\nconnections = -1", 2, "limits.connections is negative", "0 for no limit"),
        ('[limits]\nmax_message = "big"', 2, "limits.max_message: 'big' is not", '"3KB"'),
        ("[limits]\nconnection = 1", 2, "unknown key limits.connection", "limits.connections"),
    ],
)
def test_what_is_wrong_with_them(
    tmp_path: Path, text: str, line: int, what: str, hint: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(UnusableError) as error:
        load(file, {})
    problem = error.value.problems[0]
    assert (problem.file, problem.line) == (str(file), line)
    assert what in problem.what
    assert hint in problem.hint


def test_too_many_of_them(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("".join(f"[tiers.t{number}]\nevents = 1\n" for number in range(1001)))
    with pytest.raises(UnusableError, match="more than 1000"):
        load(file, {})


def test_variables_do_not_reach_into_tables_with_names_of_their_own() -> None:
    with pytest.raises(UnusableError, match="TRIO_GW_TIERS_T_EVENTS: no setting"):
        load(None, {"TRIO_GW_TIERS_T_EVENTS": "5"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("2m", 120), ("3 h", 10800), ("31d", 2678400)]
)
def test_periods(text: str, seconds: int) -> None:
    assert period(text) == seconds
    assert period(spoken(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "octets"),
    [(7, 7), ("7", 7), ("7B", 7), ("3KB", 3072), ("2 mb", 2 << 20), ("1GB", 1 << 30)],
)
def test_sizes(value: int | str, octets: int) -> None:
    assert size(value) == octets


def test_how_a_tier_reads() -> None:
    assert str(Tier("t")) == "unlimited"
    assert str(Tier("t", 5, per=90)) == "5 events per 90s"
    assert str(Tier("t", 5, octets=True, burst=2)) == "5 bytes per 1m and 2 in a burst"


def loaded(**topic: str) -> project.LoadedProject:
    meta = api("T", "/t", "ws://h:1", apiThrottlingPolicy=topic.pop("api", ""))
    channels = {"/a": {"publish": topic}, "/b": {"publish": {}}}
    files = {
        "api.yaml": json.dumps(meta).encode(),
        "Definitions/asyncapi.yaml": json.dumps(asyncapi(channels)).encode(),
    }
    return project.load(files, "apis/t")


@pytest.mark.parametrize("key", ["x-throttling-tier", "x-wso2-throttling-tier"])
def test_the_tier_of_a_topic(key: str) -> None:
    found = loaded(**{key: "10KPerMin"}).project
    assert found is not None
    assert [topic.tier for topic in found.topics] == ["10KPerMin", ""]


def test_unknown_tiers_are_warned_about() -> None:
    found = loaded(**{"api": "Nobody'sTier", "x-throttling-tier": "Gone"}).project
    assert found is not None
    one, two = unknown([found], tiers.BUILTIN)
    assert 'data.apiThrottlingPolicy: the tier "Nobody\'sTier" is not known here' in one.what
    assert "topic /a: the tier 'Gone' is not known here, so nothing is limited" in two.what
    assert {one.severity, two.severity} == {"warning"}
    assert '[tiers."Gone"]' in two.hint
    compiled = compile_snapshots([{"t": found}], (), known_tiers={"Gone": 1})
    assert one in compiled.problems
    assert two not in compiled.problems
    assert len(compiled.table.apis) == 1


@pytest.mark.parametrize(
    ("row", "known", "made"),
    [
        (policy(limit=5, per=300), None, Tier("Gold", 5, per=300)),
        (
            policy(limit=5, per=60, quota="bandwidthVolume", stop_on_quota=False),
            None,
            Tier("Gold", 5, octets=True, stop_on_quota=False),
        ),
        (
            policy(limit=5, per=3600),
            Tier("Gold", 9, octets=True, burst=3, on_exceed="close", count="both"),
            Tier("Gold", 5, per=3600, on_exceed="close", count="both"),
        ),
        (policy(), None, None),
        (policy(limit=5, per=0), None, None),
        (policy(limit=-5, per=60), Tier("Gold", 9), Tier("Gold", 9)),
        (policy(stop_on_quota=False), Tier("Gold", 9), Tier("Gold", 9, stop_on_quota=False)),
        (policy(), Tier("Gold", 9, stop_on_quota=False), Tier("Gold", 9, stop_on_quota=False)),
        (policy(limit=1 << 70, per=1 << 70), None, Tier("Gold", LARGEST, per=LONGEST_POLICY)),
    ],
)
def test_policies_as_tiers(row: PolicyRow, known: Tier | None, made: Tier | None) -> None:
    assert of_policy(row, known) == made
