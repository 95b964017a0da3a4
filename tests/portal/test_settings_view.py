"""The settings page shows no secret, whichever setting holds it."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from support.secrets import secret
from trio_gw.config.settings import Settings
from trio_gw.portal.operate.settings_view import MASK, rows

CANARY = secret("xoh7Eeth9kai")
SECRET_NAMES = ("password", "client_secret", "token")


def with_canaries(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return values for a struct in which every secret is the canary."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        inner = next((one for one in getattr(hint, "__args__", ()) if _is_struct(one)), None)
        if field.name in SECRET_NAMES and hint is str:
            found[field.name] = CANARY
        elif _is_struct(hint):
            found[field.name] = with_canaries(hint)
        elif inner is not None and getattr(hint, "__origin__", None) is tuple:
            found[field.name] = [with_canaries(inner)]
        elif field.required and hint is str:
            found[field.name] = f"https://user:{CANARY}@host/?access_token={CANARY}"
    return found


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def test_no_secret_is_shown() -> None:
    values = with_canaries(Settings)
    assert str(values).count(CANARY) > 8
    settings = msgspec.convert(values, Settings)
    shown = rows(settings)
    assert not [row for row in shown if CANARY in f"{row}"]
    masked = {row.key for row in shown if row.value == MASK}
    assert {"admin.users[0].password", "issuers[0].client_secret", "git.token"} <= masked


def test_rows_tell_what_differs_and_what_a_change_needs() -> None:
    settings = msgspec.convert({"workers": 3, "log": {"level": "DEBUG"}}, Settings)
    by_key = {row.key: row for row in rows(settings)}
    assert by_key["workers"][1:] == ("3", "1", True, False)
    assert by_key["log.level"].reload
    assert by_key["log.level"].changed
    assert not by_key["listen.http"].changed
    assert by_key["query_token"].value == "false"
    assert by_key["on_token_expiry"].value == "close"
    assert by_key["issuers[0].claims.token_id"].value == "jti"
