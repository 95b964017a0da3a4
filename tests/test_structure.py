"""The structure of the package (docs/architecture.md): imports, names, the table of modules."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from support import module_table
from support.sources import source

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trio_gw"

# Each package, and the packages that it may import, besides itself and the lowest layer.
LOWEST = {"errors", "escaping", "limiting", "supervision"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "escaping": set(),
    "limiting": set(),
    "supervision": set(),
    "watch": set(),
    "config": set(),
    "wire": set(),
    "telemetry": set(),
    "routing": {"config"},
    "workers": {"routing"},
    "guard": {"config", "watch"},
    "relay": {"wire"},
    "proxy": {"config", "guard", "relay", "routing", "telemetry", "wire", "workers"},
    "feed": {"config", "routing", "telemetry", "watch", "wire"},
    "echo": {"proxy"},
    "documents": {"config", "feed", "routing"},
    "control_plane": {"config", "feed", "guard", "routing", "telemetry", "watch", "wire"},
    "admin": {
        *("config", "control_plane", "documents", "feed", "guard", "proxy", "relay", "routing"),
        *("telemetry", "wire", "workers"),
    },
    "portal": {
        *("admin", "config", "control_plane", "documents", "feed", "guard", "proxy", "relay"),
        *("routing", "telemetry", "watch", "wire", "workers"),
    },
    "app": {
        *("admin", "config", "control_plane", "feed", "guard", "portal", "proxy", "relay"),
        *("routing", "telemetry", "watch", "workers"),
    },
    "cli": {
        *("app", "compiled", "config", "control_plane", "documents", "echo", "feed", "guard"),
        *("portal", "proxy", "routing", "telemetry", "wire"),
    },
    "testing": {"app", "config", "feed", "guard", "routing", "telemetry"},
    "pytest_plugin": {"testing"},
    "__main__": {"cli"},
    "compiled": set(),
    "__init__": {"compiled"},
}

# Only these modules import these libraries.
LIBRARIES: dict[str, set[str]] = {
    "h11": {"admin/http1.py", "wire/response.py", "wire/exchange.py", "wire/http.py"},
    "httpx2": {
        *("cli/client.py", "control_plane/rest_client.py", "guard/fetch.py"),
        "telemetry/http_sink.py",
    },
    "pamqp": {"wire/amqp.py"},
    "opentelemetry": {"telemetry/outbox.py", "telemetry/tracing.py"},
    "rich": {"cli/top/drawing.py", "cli/top/live.py", "cli/top/formatting.py"},
    "prometheus_client": {"telemetry/metrics.py"},
    "python_multipart": {"admin/form_token.py", "admin/upload.py"},
    "starlette": {
        "admin/adapter.py",
        "admin/json_responses.py",
        "admin/app.py",
        "admin/explain_view.py",
        "admin/context.py",
        "admin/form_token.py",
        "admin/origin_check.py",
        "admin/http1.py",
        "admin/managing.py",
        "admin/server.py",
        "admin/topics.py",
        "admin/upload.py",
        "admin/operation_views.py",
        "admin/views.py",
        "admin/websocket.py",
        "portal/",  # its handlers take requests and return responses
    },
    "jinja2": {"portal/render.py", "portal/template_helpers.py"},
    "jwt": {
        "guard/jwks.py",
        "guard/operators.py",
        "guard/assertion.py",
        "guard/testkey.py",
        "guard/token_endpoint.py",
        "guard/tokens.py",
        "portal/session_token.py",
    },
    "pytest": {"pytest_plugin/__init__.py"},
    "pytest_trio": {"pytest_plugin/trio_fixtures.py"},
    "trio_websocket": {
        "echo.py",
        *("testing/backend.py", "testing/connection.py", "testing/gateway.py"),
    },
    "watchfiles": {"watch/directories.py"},
    "markdown_it": {"portal/markdown.py"},
    "nh3": {"portal/markdown.py"},
    "yaml": {"config/document.py"},
    "cryptography": {
        *("guard/anchors.py", "guard/assertion.py", "guard/certificates.py"),
        *("guard/clients.py", "guard/issuer_keys.py", "guard/tls.py", "portal/session_token.py"),
    },
}

# Pure functions: no event loop, no clock, no socket.
PURE = (
    *("config", "errors", "guard/caps.py", "guard/denials.py", "guard/memory_barrier.py"),
    *(
        "guard/limiter.py",
        "guard/rate_limits.py",
        "guard/counter.py",
        "guard/key_cells.py",
        "guard/condition_groups.py",
        "guard/decisions.py",
        "guard/pattern_syntax.py",
        "guard/patterns.py",
        "guard/ranges.py",
        "guard/window_blocks.py",
    ),
    *("relay/assembly.py", "relay/lane.py", "relay/runs.py", "relay/policer.py"),
    *("routing/access_index.py", "routing/backend_target.py", "routing/conflicts.py"),
    *("routing/path_interpretations.py", "routing/segments.py", "routing/topics.py", "wire"),
)

MODULES = sorted(PACKAGE.rglob("*.py"))
# In one process of pytest-xdist, so that each module is parsed once.
parses_all = pytest.mark.xdist_group("sources")


def imports(path: Path) -> list[str]:
    """Return all modules that a file imports, at any level."""
    found = []
    for node in source(path).imports:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            whole = module == "trio_gw" or (PACKAGE.parent / module.replace(".", "/")).is_dir()
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += names if whole and module.startswith("trio_gw") else [module]
    return found


def violations(path: Path) -> list[str]:
    """Return the imports of a file that break the rules."""
    inside = path.relative_to(PACKAGE)
    package = inside.parts[0].removesuffix(".py")
    allowed = ALLOWED[package] | LOWEST | {package}
    found = []
    for name in imports(path):
        if name.startswith("trio_gw."):
            target = name.split(".")[1]
            known = (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file()
            if known and target not in allowed:
                found.append(f"{inside} must not import {name}")
        library = name.split(".")[0]
        rooms = {inside.as_posix(), f"{package}/"}
        if library in LIBRARIES and not rooms & LIBRARIES[library]:
            found.append(f"{inside} must not import {library}")
    return found


@parses_all
def test_imports_point_down() -> None:
    assert MODULES
    assert [violation for path in MODULES for violation in violations(path)] == []


@parses_all
def test_pure_modules_have_no_clock_and_no_event_loop() -> None:
    forbidden = {"trio", "time", "socket", "asyncio", "threading"}
    pure = [path for path in MODULES if path.relative_to(PACKAGE).as_posix().startswith(PURE)]
    assert len(pure) > len(PURE)
    for path in pure:
        assert not forbidden & set(imports(path)), path
        assert not source(path).has_async, path


def test_the_rule_can_fail(tmp_path: Path) -> None:
    offender = tmp_path / "offender.py"
    offender.write_text(
        "from trio_gw.proxy.listener import bind\nimport trio_gw.feed.folder_source\n"
    )
    assert imports(offender) == ["trio_gw.proxy.listener", "trio_gw.feed.folder_source"]


def module_of(path: Path) -> str:
    """Name a file as it is imported."""
    name = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def import_graph(paths: list[Path]) -> dict[str, set[str]]:
    """Return the modules of ours that each module imports, also for types and in functions."""
    names = {module_of(path) for path in paths}
    graph: dict[str, set[str]] = {}
    for path in paths:
        found = set()
        for node in source(path).imports:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            else:
                module = node.module or ""
                inner = {f"{module}.{alias.name}" for alias in node.names}
                found |= (inner & names) or {module}
        # A package that imports its own modules is no circle: it is their folder.
        graph[module_of(path)] = (found & names) - {module_of(path)}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Find groups of modules that import each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in order:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], order[target])
        if low[node] == order[node]:
            at = stack.index(node)
            group, stack[at:] = sorted(stack[at:]), []
            if len(group) > 1:
                found.append(group)

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


@parses_all
def test_no_modules_import_each_other() -> None:
    graph = import_graph(MODULES)
    assert graph["trio_gw.errors"] == {"trio_gw.escaping"}
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set(), "e": {"d"}}
    assert circles(graph) == [["a", "b", "c"]]


def test_a_circle_of_types_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trio_gw"
    package.mkdir()
    (package / "one.py").write_text("from trio_gw import two\n")
    (package / "two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trio_gw.one import A\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", package)
    graph = import_graph(sorted(package.glob("*.py")))
    assert circles(graph) == [["trio_gw.one", "trio_gw.two"]]


# One name for two things, with the reason why both have it.
SAME_NAME: dict[str, str] = {
    "Caller": "who makes a request: to an API, or to the portal; no module knows both",
    "Kind": "of a failure of API Manager, or of a route of the portal; no module knows both",
}


@parses_all
def test_no_class_name_has_two_meanings() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for name in source(path).classes:
            places.setdefault(name, []).append(module_of(path))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in SAME_NAME} == {}
    assert set(SAME_NAME) <= set(twice)


# Words of an earlier private vocabulary. None of them has another use in the code or the pages.
OLD_WORDS = frozenset(
    (
        *("aloud", "borrow", "buried", "bury", "departures", "depot", "doors", "everyone"),
        *("farewell", "fleet", "floor", "gate", "guests", "hasty", "heard", "heed", "house"),
        *(
            "kick",
            "ledger",
            "lend",
            "loan",
            "loans",
            "mend",
            "mended",
            "mends",
            "mourn",
            "neighbour",
        ),
        *("neighbours", "nudge", "repay", "ripen", "ripens", "shuttle", "sieve", "tally", "tidied"),
        *("toll", "tolls", "untold", "wing", "wishes", "witness"),
    )
)
PROSE = sorted((*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"))


def old_words(text: str) -> list[str]:
    """Find old words, also as parts of identifiers such as `let_go` or `_mourn`."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())
    return sorted(OLD_WORDS.intersection(words))


@pytest.mark.parametrize("path", [*MODULES, *PROSE], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_old_words(path: Path) -> None:
    assert old_words(path.read_text()) == []
    assert old_words(path.stem) == []


def test_old_words_are_found() -> None:
    assert old_words("A Shuttle, _mourn(child), FleetState") == ["fleet", "mourn", "shuttle"]


@parses_all
def test_the_table_of_modules_is_current() -> None:
    text = module_table.PAGE.read_text()
    assert module_table.page(text) == text, "run scripts/modules"
    assert all(module_table.first_sentence(path) for path in MODULES)
