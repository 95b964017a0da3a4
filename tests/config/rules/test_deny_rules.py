"""Rules of `[[deny]]` in `gateway.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.config.conditions import Deny
from trio_gw.config.settings_file import load
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from pathlib import Path


def test_what_conditions_may_say(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        'certs = "keys"\n[[deny]]\nuser = "mallory"\nreason = "spam"\n'
        '[[deny]]\naddress = "10.0.0.0/8"\ninvert = true\n'
    )
    loaded = load(path, {"TRIO_GW_DENY_0_REASON": "worse"})
    assert loaded.problems == ()
    assert loaded.settings.deny == (
        Deny(user="mallory", reason="worse"),
        Deny(address="10.0.0.0/8", invert=True),
    )
    assert loaded.settings.denials == "keys/denied.txt"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[[deny]]\nreason = 'x'", 1, "deny[0] names nobody"),
        ("[[deny]]\nuser = ''", 1, "deny[0] names nobody"),
        ("[[deny]]\nuser = 'a'\napi = '/b/1'", 1, "deny[0] names api and user"),
        ("[[deny]]\nuser = 'a'\n[[deny]]\naddress = 'b'", 4, "deny[1].address: 'b' is not an IP"),
        ("[[deny]]\napi = 'chat'", 2, "deny[0].api: 'chat' is no api"),
        ("[[deny]]\nuser = 'a'\ninvert = true", 3, "deny[0].invert: only an address"),
        ("[[deny]]\nusers = 'a'", 2, "unknown key deny[0].users"),
        ("[deny]\nuser = 'a'", 1, "deny must be a list of tables"),
        ("denials = ''", 1, "denials is empty"),
    ],
)
def test_faults_name_line_and_remedy(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(UnusableError) as caught:
        load(path, {})
    found = caught.value.problems[0]
    assert (found.file, found.line) == (str(path), line)
    assert found.what.startswith(what)
    assert found.hint


def test_conditions_that_leave_nobody_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    inverted = '[[deny]]\ninvert = true\naddress = "{}"\n'
    path.write_text(inverted.format("10.0.0.0/8") + inverted.format("192.168.0.0/16"))
    (warning,) = load(path, {}).problems
    assert (warning.line, warning.severity) == (4, "warning")
    assert "together deny every address" in warning.what
