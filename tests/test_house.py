"""Holds the import rule of docs/architecture.md: rooms import only from lower floors."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "trio_gw"

# Each room, and the rooms it may import from beside its own folder and the ground.
GROUND = {"errors", "escaping", "limiting", "supervision"}
FLOORS: dict[str, set[str]] = {
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
    "admin": {"config", "feed", "guard", "proxy", "relay", "routing", "telemetry", "workers"},
    "app": {
        *("admin", "config", "feed", "guard", "proxy", "relay", "routing", "telemetry", "watch"),
        "workers",
    },
    "cli": {
        *("app", "compiled", "config", "echo", "feed", "guard", "proxy", "routing", "telemetry"),
    },
    "testing": {"app", "config", "feed", "guard", "routing", "telemetry"},
    "pytest_plugin": {"testing"},
    "__main__": {"cli"},
    "compiled": set(),
    "__init__": {"compiled"},
}

# A library has one door.
DOORS: dict[str, set[str]] = {
    "h11": {"admin/http1.py", "wire/response.py", "wire/exchange.py", "wire/http.py"},
    "httpx2": {"cli/client.py", "guard/fetch.py", "telemetry/sinks.py"},
    "opentelemetry": {"telemetry/outbox.py", "telemetry/tracing.py"},
    "rich": {"cli/top/drawing.py", "cli/top/live.py", "cli/top/words.py"},
    "prometheus_client": {"telemetry/metrics.py"},
    "python_multipart": {"admin/form_token.py", "admin/upload.py"},
    "starlette": {
        "admin/adapter.py",
        "admin/json_responses.py",
        "admin/app.py",
        "admin/context.py",
        "admin/form_token.py",
        "admin/origin_check.py",
        "admin/http1.py",
        "admin/server.py",
        "admin/upload.py",
        "admin/views.py",
    },
    "jwt": {
        "guard/jwks.py",
        "guard/operators.py",
        "guard/assertion.py",
        "guard/testkey.py",
        "guard/tokens.py",
    },
    "pytest": {"pytest_plugin/__init__.py"},
    "pytest_trio": {"pytest_plugin/trio_fixtures.py"},
    "trio_websocket": {
        "echo.py",
        *("testing/backend.py", "testing/connection.py", "testing/gateway.py"),
    },
    "watchfiles": {"watch/directories.py"},
    "yaml": {"config/document.py"},
    "cryptography": {
        *("guard/anchors.py", "guard/assertion.py", "guard/certificates.py"),
        *("guard/clients.py", "guard/keys.py", "guard/tls.py"),
    },
}

# Values in, values out: no event loop and no clock.
PURE = (
    *("config", "errors", "guard/caps.py", "guard/denials.py", "guard/memory_barrier.py"),
    *(
        "guard/limiter.py",
        "guard/rate_limits.py",
        "guard/counter.py",
        "guard/key_cells.py",
        "guard/ranges.py",
    ),
    *("relay/assembly.py", "relay/lane.py", "relay/runs.py", "relay/policer.py"),
    *("routing/access_index.py", "routing/backend_target.py", "routing/conflicts.py"),
    *("routing/path_interpretations.py", "routing/segments.py", "routing/topics.py", "wire"),
)

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """Name every module that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            whole = module == "trio_gw" or (PACKAGE.parent / module.replace(".", "/")).is_dir()
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += names if whole and module.startswith("trio_gw") else [module]
    return found


def offences(path: Path) -> list[str]:
    """Name what a file imports against the rules."""
    inside = path.relative_to(PACKAGE)
    room = inside.parts[0].removesuffix(".py")
    allowed = FLOORS[room] | GROUND | {room}
    found = []
    for name in imports(path):
        if name.startswith("trio_gw."):
            target = name.split(".")[1]
            known = (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file()
            if known and target not in allowed:
                found.append(f"{inside} must not import {name}")
        library = name.split(".")[0]
        if library in DOORS and inside.as_posix() not in DOORS[library]:
            found.append(f"{library} has another door than {inside}")
    return found


def test_imports_point_down() -> None:
    assert MODULES
    assert [offence for path in MODULES for offence in offences(path)] == []


def test_pure_rooms_have_no_clock_and_no_loop() -> None:
    forbidden = {"trio", "time", "socket", "asyncio", "threading"}
    pure = [path for path in MODULES if path.relative_to(PACKAGE).as_posix().startswith(PURE)]
    assert len(pure) > len(PURE)
    for path in pure:
        assert not forbidden & set(imports(path)), path
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree)), path


def test_every_module_says_what_it_is() -> None:
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_the_rule_can_fail(tmp_path: Path) -> None:
    offender = tmp_path / "offender.py"
    offender.write_text(
        "from trio_gw.proxy.listener import bind\nimport trio_gw.feed.folder_source\n"
    )
    assert imports(offender) == ["trio_gw.proxy.listener", "trio_gw.feed.folder_source"]
