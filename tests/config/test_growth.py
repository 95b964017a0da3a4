"""Linear cost: a project of four times the size takes about four times as long to load and compile.

These structures are covered, each in its worst case: channels (by name, with parameters,
wrong ones, of AsyncAPI 3), operations, references (one target, chains), scopes (list, mapping),
security schemes and requirements, servers, traits, tiers by operation, endpoints, origins of CORS,
deployments, aliases of YAML, certificates of backends and clients, unknown keys. Matching is in
`tests/routing/test_segments.py`; texts with `*` in `test_wildcards.py`.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from trio_gw.config import choreo, wildcards
from trio_gw.config.project import load
from trio_gw.config.settings import Environment
from trio_gw.feed.git_errors import explain
from trio_gw.routing.compiler import compile_table

if TYPE_CHECKING:
    from collections.abc import Callable

Files = dict[str, bytes]
FEW = 250
SIZES = {"chain of references": 1500}  # for structures whose short forms do not show it
OAUTH = {"securitySchemes": {"o": {"type": "oauth2", "flows": {}}}}
PLAIN: dict[str, Any] = {"/c": {"publish": {}}}


def project(channels: Any, *, files: Files | None = None, more: Any = None, **data: Any) -> Files:
    meta = {"name": "Big", "version": "1.0.0", "context": "/big", "type": "WS"}
    endpoints = {"production_endpoints": {"url": "ws://b:80"}}
    definition = {"asyncapi": "2.6.0", "channels": channels, **(more or {})}
    return {
        "api.yaml": json.dumps({"data": {**meta, "endpointConfig": endpoints, **data}}).encode(),
        "Definitions/asyncapi.yaml": json.dumps(definition).encode(),
        **(files or {}),
    }


def chained(count: int) -> Files:
    """Each reference leads to the next one, and each channel to one of them."""
    links: dict[str, Any] = {
        f"k{n}": {"$ref": f"#/components/channels/k{n + 1}"} for n in range(count)
    }
    links[f"k{count}"] = {"publish": {}}
    channels = {f"/c{n}": {"$ref": f"#/components/channels/k{n}"} for n in range(count)}
    return project(channels, more={"components": {"channels": links}})


def third(count: int) -> Files:
    operations = {
        f"o{n}": {"action": "send", "channel": {"$ref": f"#/channels/c{n}"}} for n in range(count)
    }
    channels = {f"c{n}": {"address": f"/c{n}"} for n in range(count)}
    return project(channels, more={"asyncapi": "3.0.0", "operations": operations})


def schemes(count: int) -> Any:
    return {
        "securitySchemes": {
            f"k{n}": {"type": "httpApiKey", "in": "header", "name": f"h{n}"} for n in range(count)
        }
    }


def mapped(folder: str, file: str, entry: Callable[[int], Any], count: int) -> Files:
    found = {f"{folder}/{file}": json.dumps({"data": [entry(n) for n in range(count)]}).encode()}
    return found | {f"{folder}/below/c{n}.crt": b"x" for n in range(count)}


STRUCTURES: dict[str, Callable[[int], Files]] = {
    "channels": lambda n: project({f"/c{k}": {"publish": {}} for k in range(n)}),
    "parameters": lambda n: project({f"/{{a}}-k{k}-{{b}}": {"publish": {}} for k in range(n)}),
    "wrong channels": lambda n: project({f"c {k}": {"publish": {}} for k in range(n)}),
    "different demands": lambda n: project(
        {f"/c{k}": {"publish": {"x-scopes": [f"s{k}"]}} for k in range(n)},
        more={"components": OAUTH},
    ),
    "open channels with scopes": lambda n: project(
        {f"/c{k}": {"publish": {"x-scopes": [f"s{k}"], "x-auth-type": "None"}} for k in range(n)},
        more={"components": OAUTH},
    ),
    "asyncapi 3": third,
    "chain of references": chained,
    "one target": lambda n: project(
        {f"/c{k}": {"$ref": "#/components/channels/k"} for k in range(n)},
        more={"components": {"channels": {"k": {"publish": {}}}}},
    ),
    "scopes": lambda n: project(
        {"/c": {"publish": {"x-scopes": [f"s{k}" for k in range(n)]}}}, more={"components": OAUTH}
    ),
    "scopes as a mapping": lambda n: project(
        {"/c": {"publish": {"x-scopes": {str(k): f"s{k}" for k in range(n)}}}},
        more={"components": OAUTH},
    ),
    "security schemes": lambda n: project(
        {f"/c{k}": {"publish": {"security": [{f"k{k}": []}]}} for k in range(n)},
        more={"components": schemes(n)},
    ),
    "requirements": lambda n: project(
        {"/c": {"publish": {"security": [{f"k{k}": []} for k in range(n)]}}},
        more={"components": schemes(n)},
    ),
    "servers": lambda n: project(
        PLAIN,
        more={"servers": {f"s{k}": {"url": f"ws://h{k}", "protocol": "ws"} for k in range(n)}},
    ),
    "traits": lambda n: project({"/c": {"publish": {"traits": [{"x-a": 1} for _ in range(n)]}}}),
    "tiers": lambda n: project(
        {f"/c{k}": {"publish": {}} for k in range(n)},
        operations=[{"target": f"/c{k}", "verb": "PUBLISH"} for k in range(n)],
    ),
    "endpoints": lambda n: project(
        PLAIN,
        endpointConfig={
            "endpoint_type": "load_balance",
            "production_endpoints": [{"url": f"ws://h{k}:80/a"} for k in range(n)],
        },
    ),
    "origins": lambda n: project(
        PLAIN,
        corsConfiguration={
            "corsConfigurationEnabled": True,
            "accessControlAllowOrigins": [f"https://*.h{k}.com" for k in range(n)],
        },
    ),
    "unknown keys": lambda n: project(PLAIN, more={f"x{k}": 1 for k in range(n)}),
    "certificates of backends": lambda n: project(
        PLAIN,
        files=mapped(
            "Endpoint-certificates",
            "endpoint_certificates.yaml",
            lambda k: {"alias": "a", "endpoint": f"wss://h{k}", "certificate": f"c{k}.crt"},
            n,
        ),
    ),
    "certificates of clients": lambda n: project(
        PLAIN,
        files=mapped(
            "Client-certificates",
            "client_certificates.yaml",
            lambda k: {"alias": f"a{k}", "certificate": f"c{k}.crt"},
            n,
        ),
    ),
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_four_times_as_much_takes_about_four_times(structure: str) -> None:
    def cost(files: Files) -> float:
        began = time.process_time()
        loaded = load(files, "apis/big", {})
        if loaded.project is not None:
            compile_table([loaded.project], [Environment()])
        return time.process_time() - began

    size = SIZES.get(structure, FEW)
    few, many = STRUCTURES[structure](size), STRUCTURES[structure](4 * size)
    cost(STRUCTURES[structure](10))
    least = min(cost(few) for _ in range(2))
    # A second measurement, in case another process disturbed the first.
    assert any(cost(many) < 9 * least + 0.05 for _ in range(3))


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _converted(issuers: int) -> Callable[[], object]:
    """A configuration of Choreo Connect whose issuers are all faulty."""
    name = '[[enforcer.security.tokenService]]\nname = "n{0}"\n'
    entry = name + 'issuer = "https://i{0}"\njwksURL = "x://j{0}"\n'
    text = "".join(entry.format(number) for number in range(issuers))
    return lambda: choreo.convert(text, "config.toml")


def _explained(line: str, octets: int) -> Callable[[], object]:
    """Explain output of git: one line that repeats a text, or lines that all differ."""
    said = "".join(line.format(number) for number in range(octets // 4))[:octets]
    return lambda: explain(said, "fetch", 1)


GROWING: dict[str, Callable[[int], Callable[[], object]]] = {
    "issuers to convert": lambda n: _converted(50 * n),
    "a pattern with many stars": lambda n: (
        lambda: wildcards.fits("a" + "*b" * (4000 * n) + "*c", "a" + "b" * (4000 * n - 1) + "xc")
    ),
    "git: identity files": lambda n: _explained("Identity file ", 16384 * n),
    "git: repositories": lambda n: _explained("Repository ", 16384 * n),
    "git: lines": lambda n: _explained("x{}\n", 16384 * n),
}


@pytest.mark.parametrize("kind", GROWING)
def test_texts_of_others_take_about_four_times(kind: str) -> None:
    few, many = GROWING[kind](1), GROWING[kind](4)
    few()
    least = min(_seconds(few) for _ in range(2))
    assert any(_seconds(many) < 8 * least + 0.01 for _ in range(3))


def test_an_origin_costs_the_same_among_many_patterns() -> None:
    tried = 0
    fits = wildcards.fits

    def counted(pattern: str, text: str) -> bool:
        nonlocal tried
        tried += 1
        return fits(pattern, text)

    patterns = wildcards.Wildcards(f"https://*.h{k}.com" for k in range(4 * FEW))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wildcards, "fits", counted)
        assert patterns.fit("https://www.h77.com")
        assert not patterns.fit("https://www.example.com")
    assert tried == 1
