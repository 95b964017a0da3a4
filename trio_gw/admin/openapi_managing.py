"""The description of the operations on revisions and on the lifecycle, in OpenAPI 2."""

from __future__ import annotations

from typing import Any

from trio_gw.admin import parameters
from trio_gw.config.lifecycle import STATES
from trio_gw.feed.deployer import NOTE_LENGTH

_REFUSED = {
    "401": {"description": "no or wrong credentials"},
    "403": {"description": "the role of the user may not do this"},
    "404": {"description": "there is no such API, or no such revision"},
    "422": {"description": "a parameter breaks its rules"},
}


def _text(name: str, what: str, **rules: object) -> dict[str, Any]:
    return {"name": name, "in": "query", "type": "string", "description": what, **rules}


def _api() -> list[dict[str, Any]]:
    return [
        _text("apiName", "its name", required=True, maxLength=255, pattern=parameters.NAME),
        _text("version", "its version", required=True, maxLength=30, pattern=parameters.VERSION),
    ]


def _operation(
    name: str, summary: str, parameters: list[dict[str, Any]], **answers: str
) -> dict[str, Any]:
    described = {code.lstrip("_"): {"description": what} for code, what in answers.items()}
    return {
        "summary": summary,
        "operationId": name,
        "parameters": [*_api(), *parameters],
        "responses": dict(sorted({**_REFUSED, **described}.items())),
    }


def managing_paths() -> dict[str, Any]:
    """Return the paths, below the base path of the admin API."""
    number = {"name": "revision", "in": "query", "type": "integer", "minimum": 1}
    ruled = "a control plane rules"
    return {
        "/apis/lifecycle": {
            "get": _operation(
                "state", "Get the state of an API and the steps from it", [], _200="the state"
            ),
            "put": _operation(
                "setState",
                "Set the state of an API",
                [
                    _text("state", "the new state", required=True, enum=list(STATES)),
                    _text("successor", "what replaces a deprecated API", maxLength=200),
                    _text("sunset", "when a deprecated API ends: a date or a time", maxLength=40),
                    _text("confirm", "the name of the API, to retire it", maxLength=255),
                ],
                _200="set, in all workers",
                _400=ruled,
                _409="this state cannot follow the current one",
                _503="set, but some workers do not follow yet; or too many changes",
            ),
        },
        "/apis/revisions": {
            "get": _operation("revisions", "List the revisions of an API", [], _200="the list"),
        },
        "/apis/rollback": {
            "post": _operation(
                "rollback",
                "Deploy an old revision of an API anew",
                [
                    {**number, "required": True, "description": "the number of the revision"},
                    _text("note", "kept with the new revision", maxLength=NOTE_LENGTH),
                ],
                _200="deployed and live, as a new revision",
                _400=ruled,
                _409="the revision conflicts with another API",
                _503="other deployments take too long",
            ),
        },
    }
