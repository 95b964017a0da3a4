"""When two projects claim the same, the served one keeps it; for new ones the order decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.feed.compile import Compiled, compile_snapshots

if TYPE_CHECKING:
    from trio_gw.routing.conflicts import Claim, Holder

ORIGINS = ("deployed", "git", "apis")


def project(folder: str, context: str = "/chat", **fields: Any) -> ApiProject:
    made = ApiProject(
        folder=folder,
        id=f"id of {folder}",
        name=folder.rpartition("/")[2],
        version="1.0.0",
        context=context,
        topics=(Topic("/x"),),
        production=Cluster((Endpoint("ws", "localhost", 1),)),
    )
    return msgspec.structs.replace(made, **fields)


def compiled(held: dict[Claim, Holder], *projects: ApiProject) -> Compiled:
    """Compile these; `held` becomes what they hold."""
    snapshots: dict[str, dict[str, ApiProject]] = {origin: {} for origin in ORIGINS}
    for each in projects:
        origin, _, name = each.folder.partition("/")
        snapshots[origin][name] = each
    found = compile_snapshots(list(snapshots.values()), (), origins=ORIGINS, held=held)
    held.clear()
    held.update(found.table.held)
    return found


def served(found: Compiled, base: str = "/chat/1.0.0") -> str:
    match = found.table.match("localhost", f"{base}/x")
    return "" if match is None else match.route.api.folder


CHAT, FIRST = project("apis/chat"), project("apis/aaa")


def blamed(found: Compiled) -> list[str]:
    return [problem.file for problem in found.problems]


def test_among_new_ones_the_order_decides() -> None:
    found = compiled({}, CHAT, FIRST)
    assert served(found) == "apis/aaa"
    assert blamed(found) == ["apis/chat"]


def test_who_is_served_keeps_its_base_path_and_the_newcomer_is_blamed() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, CHAT)
    for origin in ORIGINS:
        newcomer = project(f"{origin}/aaa")
        found = compiled(held, CHAT, newcomer)
        assert served(found) == "apis/chat"
        assert blamed(found) == [f"{origin}/aaa"]
        assert "apis/chat" in found.problems[0].what


def test_the_table_does_not_depend_on_who_came_first_when_the_same_is_served() -> None:
    one: dict[Claim, Holder] = {}
    compiled(one, CHAT)
    other = project("apis/other", "/other")
    both = compiled(one, CHAT, other).table.digest
    assert compiled({}, CHAT, other).table.digest == both
    assert compiled({}, CHAT, FIRST).table.digest != compiled(one, CHAT, FIRST).table.digest


def test_who_copies_id_and_name_takes_nothing() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, CHAT)
    copy = msgspec.structs.replace(CHAT, folder="apis/aaa", lifecycle="PROTOTYPED")
    found = compiled(held, CHAT, copy)
    assert served(found) == "apis/chat"
    assert blamed(found) == ["apis/aaa"]
    elsewhere = msgspec.structs.replace(copy, context="/free")
    found = compiled(held, CHAT, elsewhere)
    assert served(found) == "apis/chat"
    assert served(found, "/free/1.0.0") == ""


def test_a_renamed_folder_goes_on_and_then_holds() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, CHAT)
    renamed = msgspec.structs.replace(CHAT, folder="apis/chat2")
    assert served(compiled(held, renamed, FIRST)) == "apis/chat2"
    assert served(compiled(held, renamed, FIRST)) == "apis/chat2"


def test_who_is_gone_or_moves_away_leaves_its_place() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, CHAT)
    compiled(held, CHAT, FIRST)
    found = compiled(held, FIRST)
    assert served(found) == "apis/aaa"
    assert found.problems == ()
    found = compiled(held, CHAT, FIRST)
    assert served(found) == "apis/aaa", "it is the one that is served now"
    held = {}
    compiled(held, CHAT)
    moved = msgspec.structs.replace(CHAT, context="/moved")
    found = compiled(held, moved, FIRST)
    assert (served(found), served(found, "/moved/1.0.0")) == ("apis/aaa", "apis/chat")


def test_who_becomes_unservable_leaves_its_place() -> None:
    held: dict[Claim, Holder] = {}
    other = project("apis/other", "/other")
    compiled(held, CHAT, other)
    confused = msgspec.structs.replace(CHAT, id=other.id)
    found = compiled(held, confused, other, FIRST)
    assert served(found, "/other/1.0.0") == "apis/other"
    assert served(found) == "apis/aaa"
    assert blamed(found) == ["apis/chat"]


def test_a_changed_id_in_its_own_folder_is_no_newcomer() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, CHAT)
    changed = msgspec.structs.replace(CHAT, id="another")
    copy = msgspec.structs.replace(CHAT, folder="apis/aaa")
    assert served(compiled(held, changed, copy)) == "apis/chat"


def test_the_same_api_of_a_more_important_origin_takes_its_place() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, CHAT)
    pushed = msgspec.structs.replace(CHAT, folder="git/chat")
    deployed = msgspec.structs.replace(CHAT, folder="deployed/chat-2.zip")
    assert served(compiled(held, CHAT, pushed)) == "git/chat"
    assert served(compiled(held, CHAT, pushed, deployed)) == "deployed/chat-2.zip"
    again = msgspec.structs.replace(CHAT, folder="deployed/chat-3.zip")
    foreign = project("deployed/aaa.zip")
    assert served(compiled(held, CHAT, again, foreign)) == "deployed/chat-3.zip"
    assert served(compiled(held, CHAT, foreign)) == "apis/chat", "undeployed, it is still there"


def test_the_default_version_stays_until_it_is_given_up() -> None:
    held: dict[Claim, Holder] = {}
    old = msgspec.structs.replace(CHAT, default_version=True)
    new = project("apis/aaa", name="chat", version="2.0.0", default_version=True)
    compiled(held, old)
    found = compiled(held, old, new)
    assert served(found, "/chat") == "apis/chat"
    assert served(found, "/chat/2.0.0") == "apis/aaa"
    assert blamed(found) == ["apis/aaa"]
    found = compiled(held, CHAT, new)
    assert served(found, "/chat") == "apis/aaa"
    found = compiled(held, old, new)
    assert served(found, "/chat") == "apis/aaa"
    assert blamed(found) == ["apis/chat"]


def test_a_base_path_is_not_taken_from_a_default_version() -> None:
    held: dict[Claim, Holder] = {}
    old = msgspec.structs.replace(CHAT, default_version=True)
    compiled(held, old)
    # Its base path with the version is the other's without.
    newcomer = project("apis/aaa", "", version="chat")
    found = compiled(held, old, newcomer)
    assert served(found, "/chat") == "apis/chat"
    assert blamed(found) == ["apis/aaa"]


def test_an_incumbent_cannot_take_what_another_holds() -> None:
    held: dict[Claim, Holder] = {}
    other = project("apis/other", "/other")
    compiled(held, CHAT, other)
    greedy = msgspec.structs.replace(CHAT, context="/other")
    found = compiled(held, greedy, other)
    assert served(found, "/other/1.0.0") == "apis/other"
    assert blamed(found) == ["apis/chat"]


def test_no_part_of_a_base_path_is_taken() -> None:
    held: dict[Claim, Holder] = {}
    inside = project("apis/aaa", "/chat/1.0.0", version="x")
    assert compiled({}, CHAT, inside).problems == (), "nobody was first"
    compiled(held, CHAT)
    found = compiled(held, CHAT, inside)
    match = found.table.match("localhost", "/chat/1.0.0/x")
    assert match is not None
    assert match.route.api.folder == "apis/chat"
    assert blamed(found) == ["apis/aaa"]
    assert "/chat/1.0.0/x is below it" in found.problems[0].what
    assert blamed(compiled(held, inside)) == []
    assert blamed(compiled(held, CHAT, inside)) == [], "nothing of it is taken by the one above"


def test_versions_lie_below_the_default_version() -> None:
    held: dict[Claim, Holder] = {}
    compiled(held, msgspec.structs.replace(CHAT, default_version=True))
    newer = project("apis/aaa", name="chat", version="2.0.0")
    found = compiled(held, msgspec.structs.replace(CHAT, default_version=True), newer)
    assert found.problems == ()
    assert served(found, "/chat/2.0.0") == "apis/aaa"
