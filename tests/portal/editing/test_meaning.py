"""What a change means, what differs, and passwords that come back: without a gateway."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trio_gw.config.project import load
from trio_gw.documents import masking
from trio_gw.portal.editing import meaning, passwords, text_diff

if TYPE_CHECKING:
    from trio_gw.config.api import ApiProject

SAMPLE = Path(__file__).parents[3] / "apis/Echo-1.0.0"
API = (SAMPLE / "api.yaml").read_text()
DEFINITION = (SAMPLE / "Definitions/asyncapi.yaml").read_text()
HOSTS = {"Default": "localhost", "EU": "eu.test"}
PLACED = "data:\n- deploymentEnvironment: EU\n"


def changes(api: str = API, definition: str = DEFINITION, placed: str = "") -> list[str]:
    """Return the changes of the sample as text, `!` before the grave ones."""

    def project(api: str, definition: str, placed: str) -> ApiProject:
        files = {"api.yaml": api.encode(), "Definitions/asyncapi.yaml": definition.encode()}
        if placed:
            files["deployment_environments.yaml"] = placed.encode()
        found = load(files, "x")
        assert found.project is not None, found.problems
        return found.project

    before, after = project(API, DEFINITION, ""), project(api, definition, placed)
    return [
        f"{'!' if each.grave else ''}{each.kind} {each.topic} {each.text}".replace("  ", " ")
        for each in meaning.changes(before, after, HOSTS)
    ]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("publish: {}", "publish: {x-auth-type: None}", "!opened /plain now open"),
        ("- echo:admin", "- other", "scopes /admin now asks for `other`, `echo:admin` before"),
        (
            "publish:\n      x-scopes:\n        - echo:admin",
            "publish: {}",
            "!scopes /admin any valid token is enough now, `echo:admin` before",
        ),
        ("/plain:", "/other:", "!removed /plain removed"),
        ("/plain:", "/other:", "added /other new topic"),
        (
            "/rooms?room={uri.var.roomId}",
            "/r/{uri.var.roomId}",
            "backend /rooms/{roomId} production: goes to ws://localhost:2360/r/{roomId}",
        ),
        ("publish: {}", "publish: {x-throttling-tier: Gold}", "limit /plain tier Gold, none"),
        ("publish: {}", "publish: {x-trio-gw-max-message: 9}", "limit /plain messages up to 9"),
        ("publish: {}", "publish: {x-trio-gw-plain-http: true}", "other /plain accepts plain HTTP"),
    ],
)
def test_changes_of_topics(old: str, new: str, found: str) -> None:
    assert any(each.startswith(found) for each in changes(definition=DEFINITION.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("context: /echo ", "context: /e ", "!moved clients find it at /e/1.0.0"),
        ("name: Echo", "name: Other", "!other this is another API than Echo:1.0.0"),
        ("PUBLISHED", "PROTOTYPED", "!opened /plain now open"),
        ("Unlimited", "Gold", "limit tier Gold, Unlimited before"),
        ("false", "true", "moved it answers without the version"),
        (
            "      url: ws://localhost:2360",
            "      - url: ws://localhost:2360\n      - url: ws://b:1",
            "backend production: 2 backends, 1 before",
        ),
        ("  type: WS", "  type: WS\n  authorizationHeader: X-T", "!other the token is in the head"),
        (
            "  type: WS",
            "  type: WS\n  securityScheme: [mutualssl_mandatory]",
            "secured client cert",
        ),
    ],
)
def test_changes_of_the_api(old: str, new: str, found: str) -> None:
    listed = changes(api=API.replace(old, new, 1))
    assert any(each.startswith(found) for each in listed), listed


def test_places_are_compared_as_they_are_served() -> None:
    assert changes() == []
    assert changes(placed="data:\n- deploymentEnvironment: Default\n") == []
    assert changes(placed=PLACED) == [
        "!moved not served in Default on localhost any more",
        "moved also served in EU on eu.test",
    ]


def test_differences_have_a_bound() -> None:
    many = "\n".join(f"line {number % 7}" for number in range(50_000))
    other = "\n".join(f"line {number % 5}" for number in range(50_000))
    began = time.perf_counter()
    (found,) = text_diff.differences({"a": many}, {"a": other})
    assert time.perf_counter() - began < 1
    assert (found.cut, found.lines) == (True, ())
    (found,) = text_diff.differences({"a": many}, {"a": many.replace("line 3", "x", 1)})
    assert (found.added, found.removed) == (1, 1)
    assert found.lines[0] == "@@ -1,7 +1,7 @@"
    text = "".join(f"{number}\n" for number in range(9))
    (found,) = text_diff.differences({"a": text}, {"a": text.replace("7\n", "x\n")})
    assert found.lines[0] == "@@ -5,5 +5,5 @@"
    kinds = {one.path: one.kind for one in text_diff.differences({"a": "1"}, {"b": "2\n"})}
    assert kinds == {"a": "removed", "b": "added"}


@pytest.mark.parametrize("password", ["plain", "with 'quotes\" and \\", "ünï: #code", "12", ""])
def test_hidden_passwords_come_back(password: str) -> None:
    written = json.dumps(password, ensure_ascii=False)
    security = (
        "    endpoint_security:\n      production:\n        enabled: true\n        type: BASIC\n"
        f"        username: u\n        password: {written} # kept\n"
    )
    base = {"api.yaml": (API + security).encode()}
    shown = masking.masked(base["api.yaml"], "api.yaml")
    assert not password or len(password) < 3 or password not in shown
    edited = {"api.yaml": shown.replace("username: u", "username: v")}
    back = passwords.restored(edited, base)["api.yaml"]
    assert back == (API + security).replace("username: u", "username: v")
    # A new password is not touched, and nothing comes from elsewhere.
    typed = {"api.yaml": shown.replace(masking.MASK, "typed")}
    assert passwords.restored(typed, base) == typed
    moved = {"api.yaml": "x: '********'\n", "other": "********"}
    assert passwords.restored(moved, base) == moved
    assert passwords.restored({"api.yaml": "x: ["}, base) == {"api.yaml": "x: ["}
