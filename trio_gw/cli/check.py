"""`trio-gw check`: finds every problem in settings and projects, with file, line and hint.

It loads and compiles with the code that `run` uses, so what passes here is served there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.cli import admin_options
from trio_gw.cli.common import aligned, load_settings, print_problems, settings_argument
from trio_gw.config.settings import Settings
from trio_gw.config.tiers import known
from trio_gw.errors import Problem, UnusableError, has_errors
from trio_gw.escaping import escape
from trio_gw.feed.compile import compile_snapshots
from trio_gw.feed.load_folder import load_once
from trio_gw.feed.offline import OfflineSnapshot, load_offline
from trio_gw.routing.export import route_rows

if TYPE_CHECKING:
    import argparse

    from trio_gw.config.api import ApiProject
    from trio_gw.routing.table import RouteTable


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument(
        "--against",
        metavar="URL",
        dest="url",
        help="compare with what the gateway at this admin API serves; differences are errors",
    )
    admin_options.credentials(parser)
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings too")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        help="a project folder or a folder of projects (default: what a gateway would serve)",
    )


def main(options: argparse.Namespace) -> int:
    """Check; return 1 if there is an error, else 0."""
    problems: list[Problem] = []
    settings, base = Settings(), Path.cwd()
    try:
        loaded = load_settings(options)
        settings, base = loaded.settings, loaded.base
        problems += loaded.problems
        if _has_keys(settings, base):
            problems += _check_keys(settings, base)
    except UnusableError as error:
        problems += error.problems
    found = _given(options.paths) if options.paths else load_offline(settings, base)
    if settings.git.url:
        from trio_gw.feed import git_command

        problems += git_command.faults(settings.git, base, os.environ)
    if settings.control_plane.url:
        from trio_gw.cli.check_control_plane import check_control_plane

        problems += check_control_plane(settings.control_plane, base)
    problems += found.problems
    compiled = compile_snapshots(
        found.snapshots,
        settings.known_environments,
        strict_vhosts=settings.strict_vhosts,
        known_tiers=known(settings.tiers),
        origins=found.origins,
        held=found.held,
    )
    problems += compiled.problems
    problems += _keyless(compiled.table, settings)
    if not options.paths:
        problems += _check_denials(settings, base, compiled.table)
    count = sum(map(len, found.snapshots))
    unenforced = {
        project.folder: project.unenforced
        for snapshot in found.snapshots
        for project in snapshot.values()
        if project.unenforced
    }
    if options.url:
        problems += _against(options, compiled.table)
    problems = list(dict.fromkeys(problems))
    topics = len({(route.api.folder, route.topic.name) for *_, route in compiled.table.rows()})
    failed = has_errors(problems) or (options.strict and bool(problems))
    if options.json:
        report = {
            "ok": not failed,
            "projects": count,
            "topics": topics,
            "problems": [msgspec.structs.asdict(problem) for problem in problems],
            "routes": route_rows(compiled.table),
            "unenforced": unenforced,
        }
        print(json.dumps(report, indent=2))
    else:
        if rows := route_rows(compiled.table):
            print(_targets(rows))
        # Errors last, next to the prompt.
        print_problems(sorted(problems, key=lambda problem: problem.severity == "error"))
        for folder, notes in unenforced.items():
            print(escape(f"{folder}: not enforced: {', '.join(notes)}"), file=sys.stderr)
        print(_summary(problems, count, topics), file=sys.stderr)
    return 1 if failed else 0


def _targets(rows: list[dict[str, Any]]) -> str:
    """List the backend URLs of every topic."""
    lines = [("TOPIC", "BACKEND")]
    for row in rows:
        urls = dict.fromkeys((*row["production"], *row["sandbox"]))
        lines.append((row["host"] + row["path"], " ".join(urls)))
    return aligned(lines)


def _against(options: argparse.Namespace, table: RouteTable) -> list[Problem]:
    """Compare with a running gateway; each difference is a problem."""
    from trio_gw.cli import client, compare

    try:
        with client.AdminClient(options) as gateway:
            there = compare.running_routes(gateway)
    except client.RefusedError as error:
        return [Problem("--against", 0, 0, str(error))]
    return compare.differences(route_rows(table), there)


def _summary(problems: list[Problem], projects: int, topics: int) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    counted = [
        f"{number} {noun}{'s' if number != 1 else ''}"
        for number, noun in ((errors, "error"), (len(problems) - errors, "warning"))
        if number
    ]
    good = f"{projects} API project{'s' if projects != 1 else ''}"
    good += f" with {topics} topic{'s' if topics != 1 else ''} can be served"
    return f"{', '.join(counted)}; {good}" if counted else f"fine: {good}"


def _given(paths: list[Path]) -> OfflineSnapshot:
    """Load the projects at these paths only."""
    projects: dict[str, ApiProject] = {}
    problems: list[Problem] = []
    for path in paths:
        if _is_project(path):
            name = path.resolve().name
            found, faults = load_once(path.resolve().parent, label=str(path.parent), only={name})
        else:
            found, faults = load_once(path, label=str(path))
        projects |= {project.folder: project for project in found.values()}
        problems += faults
    return OfflineSnapshot((projects,), tuple(problems))


def _keyless(table: RouteTable, settings: Settings) -> list[Problem]:
    """Find APIs whose topics require an API key, although no issuer of API keys is set."""
    if settings.api_key.issuer:
        return []
    topics: dict[str, list[str]] = {}
    for *_, route in table.rows():
        if route.topic.api_keys and route.secured:
            names = topics.setdefault(route.api.folder, [])
            if route.topic.name not in names:
                names.append(route.topic.name)
    hint = "name their issuer in `[api_key] issuer`, or use another security scheme"
    return [
        Problem(
            folder,
            0,
            0,
            f"API keys are required, but none is accepted: {', '.join(names[:5])}",
            hint,
            severity="warning",
        )
        for folder, names in topics.items()
    ]


def _check_denials(settings: Settings, base: Path, table: RouteTable) -> list[Problem]:
    """Read the file of deny conditions, and find those that name an unknown API."""
    path = base / settings.denials
    if not os.path.lexists(path):
        return []
    from trio_gw.guard import blocklist

    try:
        conditions, problems = blocklist.read(path)
    except UnusableError as error:
        return list(error.problems)
    served = {route.api.base_path for *_, route in table.rows()}
    hint = "write the base path with the version, as `trio-gw routes` shows it"
    return [*problems] + [
        Problem(str(path), 0, 0, f"{one} is denied, but there is no such API", hint, "warning")
        for one in conditions
        if one.kind == "api" and one.key not in served
    ]


def _is_project(path: Path) -> bool:
    """Return whether a folder is a project, not a folder of projects."""
    try:
        inside = {entry.name.lower() for entry in path.iterdir()}
    except OSError:
        return False
    return bool(inside & {"definitions", "api.yaml", "api.yml", "api.json"})


def _has_keys(settings: Settings, base: Path) -> bool:
    """Return whether there are keys, certificates or issuers to check."""
    tls = settings.tls
    own = base / tls.cert
    if own.exists() or (base / tls.key).exists():
        return True
    # The gateway creates its own certificate at the first start.
    named = [
        one for one in settings.issuers if not one.certificate or base / one.certificate != own
    ]
    files = (tls.certificates, tls.client_ca, tls.backend_ca, settings.backend_jwt.key)
    return bool(named) or any(files)


def _check_keys(settings: Settings, base: Path) -> list[Problem]:
    # Imports cryptography, which a folder of projects without keys does not need.
    from trio_gw.cli.check_keys import check_keys

    return check_keys(settings, base)
