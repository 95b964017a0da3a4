"""What a golden case compiles to, as plain data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trio_gw.config.project import load
from trio_gw.config.settings import Environment
from trio_gw.feed import project_files
from trio_gw.routing.compiler import compile_table

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.config.api import Cluster
    from trio_gw.routing.route import Route


def outcome(case: Path) -> dict[str, Any]:
    """Load and compile the case's project with the code that the gateway uses."""
    described = case / "case.json"
    facts: dict[str, Any] = json.loads(described.read_text()) if described.exists() else {}
    contents = project_files.read(case, "project", label="apis")
    assert contents is not None
    loaded = load(contents.files, "apis/project", facts.get("environ", {}))
    environments = [
        Environment(name, vhost)
        for name, vhost in facts.get("environments", [["Default", "localhost"]])
    ]
    projects = [] if loaded.project is None else [loaded.project]
    table, conflicts = compile_table(projects, environments)
    return {
        "routes": [_route(*row) for row in table.rows()],
        "problems": [
            {
                "place": f"{problem.file}:{problem.line}:{problem.column}",
                "severity": problem.severity,
                "what": problem.what,
                "hint": problem.hint,
            }
            for problem in (*contents.problems, *loaded.problems, *conflicts)
        ],
    }


def _route(host: str, base: str, route: Route) -> dict[str, Any]:
    api, topic = route.api, route.topic
    found: dict[str, Any] = {
        "host": host,
        "path": base + topic.name,
        "api": api.title,
        "id": api.id,
        "secured": route.secured,
        "scopes": None if topic.scopes is None else list(topic.scopes),
        "header": api.authorization_header,
        "organization": api.organization,
        "tier": api.tier,
    }
    if not api.oauth2:
        found["oauth2"] = False
    if topic.mapping is not None:
        found["mapping"] = topic.mapping.path
        if topic.mapping.query is not None:
            found["query"] = [list(pair) for pair in topic.mapping.query]
    for kind in ("production", "sandbox"):
        if (cluster := route.cluster(kind)) is not None:
            found[kind] = _cluster(cluster)
    return found


def _cluster(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = {"endpoints": [str(endpoint) for endpoint in cluster.endpoints]}
    if cluster.failover:
        found["failover"] = True
    if cluster.timeout is not None:
        found["timeout"] = cluster.timeout
    if cluster.retries:
        found["retries"] = cluster.retries
    if cluster.basic is not None:
        found["basic"] = [cluster.basic.username, cluster.basic.password]
    return found
