"""Events and pulls in any order end in the state that API Manager holds."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from trio_gw.config.entitlements import (
    GRACE,
    ApiRow,
    ApplicationRow,
    BlockRow,
    Change,
    DecisionRow,
    KeyMappingRow,
    PolicyRow,
    RevokedRow,
    SubscriptionRow,
    key_of,
    of_rows,
)
from trio_gw.control_plane import reconcile
from trio_gw.control_plane.events import LifecycleEvent, RowsEvent, UndeployEvent
from trio_gw.control_plane.reconcile import (
    AHEAD,
    EventOrder,
    FetchedApi,
    FetchedPolicies,
    after_pull,
    effect,
    is_stale,
)
from trio_gw.control_plane.state import EMPTY_STATE, Artifact, ControlPlaneState, state_of

if TYPE_CHECKING:
    from trio_gw.config.entitlements import Row
    from trio_gw.control_plane.reconcile import Applied

NOW = 1_800_000_000_000


def state(*rows: Row, artifacts: tuple[Artifact, ...] = ()) -> ControlPlaneState:
    return state_of(of_rows(rows), artifacts, 1.0)


def applied(before: ControlPlaneState, event: Applied) -> ControlPlaneState:
    return before.apply(effect(before, event, NOW))


def put(row: Row, kind: Any = "subscription", key: Any = None, at: int = 0) -> RowsEvent:
    return RowsEvent(kind, Change((row,)), "", key, at)


def test_attributes_of_an_application_stay() -> None:
    before = state(ApplicationRow("u", attributes={"a": "b"}))
    after = applied(before, put(ApplicationRow("u", name="New"), "application"))
    expected = ApplicationRow("u", name="New", attributes={"a": "b"})
    assert after.entitlements.applications["u"] == expected


def test_the_limit_of_a_policy_stays_until_it_is_fetched() -> None:
    before = state(PolicyRow("api", 1, "Gold", "eventCount", 5, 60))
    event = put(PolicyRow("api", 1, "Gold", "eventCount", stop_on_quota=False), "policy")
    after = applied(before, event).entitlements.policies[("api", 1)]
    assert (after.limit, after.per, after.stop_on_quota) == (5, 60, False)
    event = put(PolicyRow("api", 1, "Gold", "bandwidthVolume"), "policy")
    assert applied(before, event).entitlements.policies[("api", 1)].limit == 0


def test_events_do_not_add_rows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MAX_ROWS", 2)
    after = state()
    for number in (1, 2, 3):
        after = applied(after, put(SubscriptionRow(number)))
    assert set(after.entitlements.subscriptions) == {1, 2}
    after = applied(after, put(SubscriptionRow(2, state="BLOCKED")))
    assert after.entitlements.subscriptions[2].state == "BLOCKED"


def test_what_is_so_already_changes_nothing() -> None:
    row = SubscriptionRow(1, "u", timestamp=5)
    before = state(row, ApiRow("u", status="BLOCKED"))
    for event in (
        put(row),
        RowsEvent("subscription", Change(removed=(SubscriptionRow(2),))),
        LifecycleEvent("u", "BLOCKED"),
        LifecycleEvent("other", "BLOCKED"),
        UndeployEvent("other", ("Default",)),
        FetchedPolicies("api", ()),
        put(RevokedRow("j", NOW - GRACE - 1), "revocation"),
        put(DecisionRow("k", NOW - 1), "decision"),
    ):
        assert not effect(before, event, NOW)


def test_the_lifecycle() -> None:
    after = applied(state(ApiRow("u", status="PUBLISHED")), LifecycleEvent("u", "BLOCKED"))
    assert after.entitlements.apis["u"].status == "BLOCKED"


def test_fetched_policies_replace_those_of_their_level() -> None:
    before = state(PolicyRow("api", 1), PolicyRow("api", 2), PolicyRow("subscription", 1))
    after = applied(before, FetchedPolicies("api", (PolicyRow("api", 2, "New"),)))
    assert set(after.entitlements.policies.values()) == {
        PolicyRow("api", 2, "New"),
        PolicyRow("subscription", 1),
    }


def artifact(revision: str, *places: tuple[str, str]) -> Artifact:
    return Artifact("u", revision, revision, tuple(sorted(places)))


A, B = ("A", "a"), ("B", "b")


@pytest.mark.parametrize(
    ("found", "revisions", "labels"),
    [
        (FetchedApi("u", ("A",), (artifact("2", A),), ApiRow("u", labels=("A",))), "12", "AB"),
        (FetchedApi("u", ("A",), (artifact("2", ("A", "b")),)), "2", "AB"),
        (FetchedApi("u", ("A",)), "1", "B"),
        (FetchedApi("u", ("A", "B")), "", ""),
        (FetchedApi("u", ("A",), broken=True), "1", "AB"),
        (FetchedApi("u", ("A", "B"), (artifact("2", B),), ApiRow("u", labels=("B",))), "2", "B"),
        (
            FetchedApi("u", ("C",), (artifact("2", ("C", "c")),), ApiRow("u", labels=("C",))),
            "12",
            "ABC",
        ),
        (UndeployEvent("u", ("B",)), "1", "A"),
    ],
)
def test_a_fetched_api(found: Applied, revisions: str, labels: str) -> None:
    before = state(ApiRow("u", labels=("A", "B")), artifacts=(artifact("1", A, B),))
    after = applied(before, found)
    assert "".join(each.revision for each in after.artifacts.get("u", ())) == revisions
    row = after.entitlements.apis.get("u")
    assert "".join(row.labels if row else ()) == labels


def test_older_events() -> None:
    order = EventOrder()
    before = state(SubscriptionRow(1, timestamp=50))

    def stale(at: int, key: Any = ("subscription", 1)) -> bool:
        return is_stale(before, put(SubscriptionRow(1), key=key, at=at), order, NOW)

    assert stale(49)
    assert not stale(50)
    assert not stale(60)
    assert stale(59)
    assert not stale(0)
    assert not stale(5, key=None)


def test_times_in_the_far_future_have_no_meaning() -> None:
    order = EventOrder()
    later = NOW + AHEAD + 1
    before = state(SubscriptionRow(1, timestamp=later))
    key = ("subscription", 1)
    assert not is_stale(before, put(SubscriptionRow(1), key=key, at=later), order, NOW)
    assert not is_stale(before, put(SubscriptionRow(1), key=key, at=NOW), order, NOW)


def test_the_memory_of_times_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MAX_KEYS", 2)
    order = EventOrder()
    for key in "abc":
        order.record(key, 5, NOW)
    assert [order.stale(key, 4, 0, NOW) for key in "abc"] == [False, True, True]


def test_revocations_and_decisions_survive_a_pull() -> None:
    rows = [
        RevokedRow("new", NOW + 1),
        RevokedRow("old", NOW - 5000),
        RevokedRow("over", NOW - GRACE - 1),
        RevokedRow("unknown"),
    ]
    current = state(*rows, DecisionRow("k", NOW + 1), DecisionRow("l", NOW - 1))
    listed = state(RevokedRow("listed", NOW + 1), RevokedRow("for ever"), RevokedRow("past", 1))
    after = after_pull(listed, current, (), EventOrder(), NOW)
    assert set(after.entitlements.revoked) == {"listed", "for ever", "new", "old"}
    assert set(after.entitlements.decisions) == {"k"}


# -- any order -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Manager:
    """API Manager: its tables, and the events on their way."""

    rows: dict[Any, Row] = dataclasses.field(default_factory=dict)
    deployed: dict[str, tuple[Artifact, int]] = dataclasses.field(default_factory=dict)
    events: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    clock: Any = dataclasses.field(default_factory=lambda: itertools.count(1))

    def change(self, kind: str, number: int, value: str) -> None:
        """Change a row, or deploy an API; an empty value removes it."""
        at = next(self.clock)
        if kind == "deployment":
            uuid = f"api-{number}"
            if value:
                places = (("Default", f"host-{value}"),)
                self.deployed[uuid] = Artifact(uuid, value, value, places), at
                self.rows["api", uuid] = ApiRow(uuid, value, labels=("Default",))
                self.events.append(("deploy", uuid, at))
            else:
                self.deployed.pop(uuid, None)
                self.rows.pop(("api", uuid), None)
                self.events.append(("undeploy", uuid, at))
            return
        row, key = _row(kind, number, value, at)
        change = Change((row,)) if value else Change(removed=(row,))
        if value:
            self.rows[kind, number] = row
        else:
            self.rows.pop((kind, number), None)
        self.events.append(("rows", RowsEvent(kind, change, "", key, at)))  # type: ignore[arg-type]

    def state(self) -> ControlPlaneState:
        """Give what REST says, without the times that REST does not have."""
        rows = [
            without_time(row) if isinstance(row, ApplicationRow) else row
            for row in self.rows.values()
        ]
        return state(*rows, artifacts=tuple(each for each, _ in self.deployed.values()))


def without_time(row: ApplicationRow) -> ApplicationRow:
    return ApplicationRow(row.uuid, name=row.name)


def _row(kind: str, number: int, value: str, at: int) -> tuple[Row, Any]:
    if kind == "subscription":
        return SubscriptionRow(number, tier=value, timestamp=at), (kind, number)
    if kind == "key_mapping":
        return KeyMappingRow(f"k{number}", "KM", value, timestamp=at), (kind, f"k{number}", "KM")
    if kind == "application":
        row = ApplicationRow(f"a{number}", name=value, timestamp=at)
        return row, (kind, f"a{number}")
    return BlockRow("api", f"/{number}"), None


class Gateway:
    """What the follower does, without sockets: it pulls, and takes events."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.state = EMPTY_STATE
        self.order = EventOrder()
        self.during: list[Applied] | None = None
        self.read: ControlPlaneState | None = None
        self.read_at: dict[str, int] = {}
        self.wanted: set[str] = set()

    def begin(self) -> None:
        self.during, self.read = [], None

    def answer(self) -> None:
        if self.during is not None:
            self.read = self.manager.state()
            self.read_at = {uuid: at for uuid, (_, at) in self.manager.deployed.items()}

    def end(self) -> None:
        if self.during is None:
            return
        if self.read is None:
            self.answer()
        assert self.read is not None
        for uuid, at in self.read_at.items():
            self.order.record(reconcile.deployment_key(uuid, "Default"), at, NOW)
        self.state = after_pull(self.read, self.state, self.during, self.order, NOW)
        self.during = None

    def fetch(self) -> None:
        for uuid in sorted(self.wanted):
            deployed = self.manager.deployed.get(uuid)
            row: Any = self.manager.rows.get(("api", uuid))
            artifacts = (deployed[0],) if deployed else ()
            self._apply(FetchedApi(uuid, ("Default",), artifacts, row))
        self.wanted.clear()

    def deliver(self, at: int) -> None:
        if not self.manager.events:
            return
        what, *rest = self.manager.events.pop(min(at, len(self.manager.events) - 1))
        if what == "deploy":
            self.order.record(reconcile.deployment_key(rest[0], "Default"), rest[1], NOW)
            self.wanted.add(rest[0])
        elif what == "undeploy":
            event = UndeployEvent(rest[0], ("Default",), "", rest[1])
            if not self._apply(event) or event.uuid in self.wanted:
                self.wanted.add(event.uuid)
        else:
            self._apply(rest[0])

    def _apply(self, event: Applied) -> bool:
        if is_stale(self.state, event, self.order, NOW):
            return False
        if self.during is not None:
            self.during.append(event)
        self.state = self.state.apply(effect(self.state, event, NOW))
        return True


def plain(state: ControlPlaneState) -> Any:
    """Compare without the times of applications, which REST does not have."""
    rows = {
        (type(row), key_of(row)): without_time(row) if isinstance(row, ApplicationRow) else row
        for row in state.entitlements.rows()
    }
    return rows, dict(state.artifacts)


CHANGES = st.tuples(
    st.just("change"),
    st.sampled_from(["subscription", "key_mapping", "application", "block", "deployment"]),
    st.integers(0, 1),
    st.sampled_from(["", "x", "y"]),
)
DELIVERIES = st.tuples(st.just("deliver"))
SMALL = st.lists(st.one_of(CHANGES, DELIVERIES), max_size=6)
PULLS = st.tuples(SMALL, SMALL).map(
    lambda found: [("begin",), *found[0], ("answer",), *found[1], ("end",)]
)
OTHERS = st.tuples(st.sampled_from(["fetch", "lose"]))
STEPS = st.lists(st.one_of(SMALL, PULLS, st.lists(OTHERS, min_size=1, max_size=1)), max_size=8).map(
    lambda parts: [step for part in parts for step in part]
)


@given(steps=STEPS)
@settings(max_examples=examples(5000), deadline=None)
def test_events_and_pulls_in_any_order(steps: list[Any]) -> None:
    manager = Manager()
    gateway = Gateway(manager)
    lost = False
    for name, *arguments in steps:
        if name == "change":
            manager.change(*arguments)
        elif name == "deliver":
            gateway.deliver(0)
        elif name == "lose":
            manager.events.clear()
            lost = True
            # A pull that began before the queue was bound is followed by another one.
            gateway.end()
        else:
            getattr(gateway, name)()
            lost = lost and name != "begin"
    gateway.end()
    if lost or not gateway.state.pulled_at:
        gateway.begin()
        gateway.end()
    while manager.events:
        gateway.deliver(0)
    gateway.fetch()
    assert plain(gateway.state) == plain(manager.state())


@given(steps=st.lists(CHANGES, max_size=20), order=st.lists(st.integers(0, 20), max_size=20))
@settings(max_examples=examples(3000), deadline=None)
def test_events_that_overtake_each_other(steps: list[Any], order: list[int]) -> None:
    manager = Manager()
    gateway = Gateway(manager)
    gateway.begin()
    gateway.end()
    for _, kind, number, value in steps:
        if kind in ("subscription", "key_mapping", "application", "deployment"):
            manager.change(kind, number, value)
    for at in order:
        gateway.deliver(at)
    while manager.events:
        gateway.deliver(0)
    gateway.fetch()
    assert plain(gateway.state) == plain(manager.state())
