"""The rules of `[git]`: addresses, branches, and credentials that go with them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trio_gw.config import git
from trio_gw.config.git import GitSettings
from trio_gw.config.rules import git as rules
from trio_gw.config.settings import Settings

HTTPS = "https://git.example.com/apis.git"
SSH = "git@git.example.com:team/apis.git"


def faults(**table: Any) -> list[str]:
    settings = msgspec.convert({"git": {"url": HTTPS, **table}}, Settings)
    return [fault.what for fault in rules.check(settings)]


@pytest.mark.parametrize(
    ("url", "scheme", "host", "origin"),
    [
        (HTTPS, "https", "git.example.com", "https://git.example.com"),
        ("https://h:8443/a/b", "https", "h", "https://h:8443"),
        ("https://[::1]:8443/a", "https", "::1", "https://[::1]:8443"),
        ("HTTPS://h/a", "https", "h", "https://h"),
        ("http://localhost/a", "http", "localhost", "http://localhost"),
        ("ssh://git@h:2222/a", "ssh", "h", "ssh://h:2222"),
        (SSH, "ssh", "git.example.com", ""),
        ("h:a", "ssh", "h", ""),
        ("git@[::1]:a", "ssh", "[::1]", ""),
        ("/srv/git/apis.git", "file", "", ""),
        ("file:///srv/git/apis.git", "file", "", ""),
    ],
)
def test_addresses(url: str, scheme: str, host: str, origin: str) -> None:
    assert git.parse(url) == (scheme, host, origin)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("--upload-pack=touch /tmp/x", "hyphen"),
        ("-oProxyCommand=x:y", "hyphen"),
        ("git@-oProxyCommand=x:y", "hyphen"),
        ("ssh://-oProxyCommand=x/y", "no host"),
        ("ssh://-o@h/y", "no host"),
        ("-x@h:y", "hyphen"),
        ("ext::sh -c touch% /tmp/x", "transports"),
        ("ext::sh", "transports"),
        ("git://h/a", "transports"),
        ("ftp://h/a", "transports"),
        ("https:///a", "no host"),
        ("https://h:x/a", "port"),
        ("https://u:p@h/a", "credentials"),
        ("https://token@h/a", "credentials"),
        ("ssh://u:p@h/a", "credentials"),
        ("https://h/a?b", "query"),
        ("https://h/a#b", "query"),
        ("https://h/a\nb", "control"),
        ("file://host/a", "three slashes"),
        ("apis.git", "neither"),
        ("./apis.git", "neither"),
        ("git@h:", "neither"),
    ],
)
def test_what_is_no_address(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        git.parse(url)
    (told,) = faults(url=url)
    assert told.startswith("git.url is not the address of a repository: ")
    assert url not in told  # there may be a password in it


@pytest.mark.parametrize("branch", ["", "main", "release/1.0", "feature_x-1", "é", "a@b"])
def test_branches(branch: str) -> None:
    assert faults(branch=branch) == []


@pytest.mark.parametrize(
    "branch",
    ["-x", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a@{1}", "/a", "a/", "a//b",
     ".a", "a/.b", "a.", "a.lock", "a.lock/b", "a\x00", "x" * 251],
)  # fmt: skip
def test_what_is_no_branch(branch: str) -> None:
    (told,) = faults(branch=branch)
    assert "cannot be the name of a branch" in told


@pytest.mark.parametrize("path", ["/a", "a/", "a//b", "..", "a/../b", "./a", "a\x00b"])
def test_what_is_no_path(path: str) -> None:
    (told,) = faults(path=path)
    assert "not a folder in a repository" in told


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"username": "u"}, "git.username is given without git.token"),
        ({"token": "a\nb"}, "git.token has a control character"),
        ({"token": "t", "url": "http://git.example.com/a"}, "would be sent unencrypted"),
        ({"token": "t", "url": SSH}, "git.token is for https:// URLs"),
        ({"token": "t", "url": "/srv/a"}, "git.token is for https:// URLs"),
        ({"ssh_key": "k"}, "git.ssh_key is for ssh:// URLs"),
        ({"known_hosts": "k"}, "git.known_hosts is for ssh:// URLs"),
        ({"ca": "c", "url": "http://localhost/a"}, "git.ca is for https:// URLs"),
        ({"interval": 0.5}, "git.interval must be"),
        ({"interval": float("inf")}, "git.interval must be"),
        ({"timeout": 0}, "git.timeout must be"),
        ({"timeout": float("nan")}, "git.timeout must be"),
        ({"max_size": 0}, "git.max_size must be"),
        ({"max_size": 1025}, "git.max_size must be"),
        ({"folder": ""}, "git.folder is empty"),
        ({"folder": "apis"}, "git.folder is the folder of apis, or in it"),
        ({"folder": "./apis/git"}, "git.folder is the folder of apis, or in it"),
        ({"folder": "deployed"}, "git.folder is the folder of deployed, or in it"),
        ({"broken": "ignore"}, "git.broken: 'ignore' is not known"),
    ],
)
def test_broken_rules(table: dict[str, Any], said: str) -> None:
    (told,) = faults(**table)
    assert told.startswith(said) or said in told


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"username": "u", "token": "t", "ca": "c.pem"},
        {"token": "t"},
        {"token": "t", "url": "http://127.0.0.1:1/a"},
        {"url": SSH, "ssh_key": "k", "known_hosts": "h"},
        {"url": "/srv/a", "broken": "skip"},
    ],
)
def test_fine(table: dict[str, Any]) -> None:
    assert faults(**table) == []


def test_off_without_an_address() -> None:
    assert faults(url="") == []
    assert faults(url="", branch="-") == ["git.url is not given, so [git] has no effect"]


def test_the_token_is_in_no_repr() -> None:
    assert "s3cret" not in repr(Settings(git=GitSettings(url=HTTPS, token="s3cret", username="u")))
    assert GitSettings(token="s3cret").__rich_repr__() == [("url", ""), ("branch", "")]
