"""Settings that a running gateway applies, and the message about those that need a restart."""

from __future__ import annotations

from msgspec.structs import replace

from trio_gw.config.conditions import Deny
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.git import GitSettings
from trio_gw.config.observing import LogSettings
from trio_gw.config.renewal import differences, take_over
from trio_gw.config.settings import Issuer, Listen, Settings, User
from trio_gw.config.tiers import TierTable

HERE = GitSettings(url="https://git.example.com/a", folder="git")
THERE = GitSettings(url="https://git.example.com/b", branch="x", path="y", token="t", folder="git")


def test_the_same_settings_do_not_differ() -> None:
    assert differences(Settings(), Settings()) == []


def test_the_level_is_taken_over_and_the_format_is_not() -> None:
    read = Settings(log=LogSettings(level="debug", format="json"))
    now = take_over(Settings(), read)
    assert now == Settings(log=LogSettings(level="debug"))
    assert differences(now, read) == ["log.format"]


def test_another_repository_is_taken_over() -> None:
    now = take_over(Settings(git=HERE), Settings(git=THERE))
    assert now == Settings(git=THERE)


def test_the_folder_of_the_last_commit_stays() -> None:
    read = Settings(git=replace(THERE, folder="elsewhere"))
    now = take_over(Settings(git=HERE), read)
    assert now.git == THERE
    assert differences(now, read) == ["git.folder"]


def test_a_repository_neither_comes_nor_goes() -> None:
    for one, other in ((HERE, GitSettings()), (GitSettings(), HERE)):
        now = take_over(Settings(git=one), Settings(git=other))
        assert now.git == one
        assert differences(now, Settings(git=other)) == ["git.url"]


def test_the_control_plane_needs_a_restart() -> None:
    now = Settings(control_plane=ControlPlaneSettings(url="https://a", password="one"))
    read = Settings(control_plane=ControlPlaneSettings(url="https://b", password="two"))
    assert take_over(now, read) == now
    assert differences(now, read) == ["control_plane.url", "control_plane.password"]


def test_differences_are_named_as_keys() -> None:
    now = Settings(
        issuers=(Issuer("a"), Issuer("b")),
        tiers={"Gold": TierTable(events=1), "Gone": TierTable(events=1)},
    )
    read = Settings(
        listen=Listen(http="localhost:1"),
        issuers=(Issuer("a"), Issuer("b", audience=("x",))),
        trusted_proxies=("10.0.0.1",),
        tiers={"Gold": TierTable(events=2), "New": TierTable(events=1)},
    )
    assert differences(now, read) == [
        "trusted_proxies",
        "listen.http",
        "issuers[1].audience",
        "tiers.Gold.events",
        "tiers.Gone",
        "tiers.New",
    ]


def test_entries_that_come_or_go_name_their_list() -> None:
    read = replace(Settings(), issuers=(), testkey=replace(Settings().testkey, users=()))
    assert differences(Settings(), read) == ["issuers", "testkey.users"]
    more = replace(Settings(), issuers=(Issuer("a"), Issuer("b")))
    assert differences(read, more) == ["issuers", "testkey.users"]


def test_no_value_is_told() -> None:
    one = replace(Settings().admin, users=(User("a", "shee8Aeh"),))
    other = replace(Settings().admin, users=(User("a", "ohSh7iop"),))
    found = differences(Settings(admin=one), Settings(admin=other))
    assert found == ["admin.users[0].password"]


def test_deny_conditions_are_taken_over() -> None:
    read = Settings(deny=(Deny(user="mallory"),))
    assert take_over(Settings(), read) == read
