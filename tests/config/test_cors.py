"""`corsConfiguration` of an api.yaml: the policy of an API, and values that are ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trio_gw.config import project
from trio_gw.config.cors import CorsSettings

DEFINITION = b"asyncapi: 2.0.0\nchannels: {/t: {publish: {}}}\n"


def load(configuration: Any) -> tuple[CorsSettings | None, list[tuple[int, str]]]:
    data = {
        "name": "C",
        "version": "1",
        "context": "/c",
        "type": "WS",
        "endpointConfig": {"production_endpoints": {"url": "ws://h"}},
        "corsConfiguration": configuration,
    }
    text = json.dumps({"data": data}, indent=1).encode()
    loaded = project.load({"api.yaml": text, "Definitions/asyncapi.yaml": DEFINITION}, "apis/C")
    assert loaded.project is not None, loaded.problems
    assert all(problem.hint for problem in loaded.problems)
    return loaded.project.cors, [(problem.line, problem.what) for problem in loaded.problems]


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        {},
        {"corsConfigurationEnabled": False, "accessControlAllowOrigins": ["nonsense"]},
        # The defaults that API Manager exports:
        {
            "corsConfigurationEnabled": False,
            "accessControlAllowOrigins": ["*"],
            "accessControlAllowCredentials": False,
            "accessControlAllowHeaders": ["authorization", "Access-Control-Allow-Origin"],
            "accessControlAllowMethods": ["GET", "PUT"],
        },
    ],
)
def test_no_policy_of_its_own(configuration: Any) -> None:
    assert load(configuration) == (None, [])


def test_a_policy_of_its_own() -> None:
    configuration = {
        "corsConfigurationEnabled": True,
        "accessControlAllowOrigins": ["https://a", "https://*.b"],
        "accessControlAllowCredentials": True,
        "accessControlAllowHeaders": ["X-A"],
        "accessControlAllowMethods": ["GET"],
    }
    assert load(configuration) == (
        CorsSettings(
            allow_origins=("https://a", "https://*.b"),
            allow_methods=("GET",),
            allow_headers=("X-A",),
            allow_credentials=True,
        ),
        [],
    )
    assert load({"corsConfigurationEnabled": True}) == (CorsSettings(), [])
    assert load({"corsConfigurationEnabled": True, "accessControlAllowOrigins": []}) == (
        CorsSettings(allow_origins=()),
        [],
    )


def test_what_means_nothing_lets_nobody_in() -> None:
    cors, problems = load(
        {
            "corsConfigurationEnabled": True,
            "accessControlAllowOrigins": ["app.example", "https://a"],
            "accessControlAllowMethods": ["GET POST"],
        }
    )
    assert cors is not None
    assert cors.allow_origins == ("https://a",)
    assert cors.allow_methods == ()
    assert [what for _, what in problems] == [
        "'app.example' is not an origin",
        "'GET POST' is not a name as HTTP has them",
    ]
    assert all(line > 1 for line, _ in problems)


def test_no_credentials_for_everybody() -> None:
    cors, ((_, what),) = load(
        {
            "corsConfigurationEnabled": True,
            "accessControlAllowOrigins": ["*"],
            "accessControlAllowCredentials": True,
        }
    )
    assert cors == CorsSettings()
    assert "no credentials are allowed" in what
