"""Compares the routes of a folder with those of a running gateway, for `check --against`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.cli import client
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMPARED = ("api", "id", "secured", "scopes", "production", "sandbox")


def running_routes(gateway: client.AdminClient) -> list[dict[str, Any]]:
    """Get the routes of a gateway. Raises `RefusedError`."""
    body = gateway.ask("GET", "/admin/routes")
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.convert(answer["routes"], list[dict[str, Any]])
    except (msgspec.MsgspecError, KeyError, RecursionError):
        raise client.RefusedError(f"{gateway.url}: the response is not a list of routes") from None


def differences(here: Iterable[dict[str, Any]], there: Iterable[dict[str, Any]]) -> list[Problem]:
    """Return the differences; `here` are the routes of the folder."""
    ours, theirs = _by_place(here), _by_place(there)
    found = []
    for place in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(place), theirs.get(place)
        where = f"{place[0]}{place[1]}"
        if other is None:
            assert mine is not None
            what = f"only in the folder ({mine.get('api')})"
            found.append(Problem(where, 0, 0, what, "deploy it"))
        elif mine is None:
            what = f"only in the gateway ({other.get('api')}, from {other.get('folder')})"
            found.append(Problem(where, 0, 0, what, "undeploy it, or add it to the folder"))
        else:
            for name in _COMPARED:
                if mine.get(name) != other.get(name):
                    ours_text, theirs_text = _text(mine.get(name)), _text(other.get(name))
                    what = f"{name} is {ours_text} in the folder, {theirs_text} in the gateway"
                    found.append(Problem(where, 0, 0, what, "deploy it with --override"))
    return found


def _by_place(routes: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(str(one.get("host")), str(one.get("path"))): one for one in routes}


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)
