"""`trio-gw pull`: reads API Manager once, and lists what a gateway would serve.

It uses the code that `run` uses. Nothing is served, and nothing is written: the projects go to a
temporary folder, the queue at each broker ends with the command.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

from trio_gw.cli.common import aligned, load_settings, print_problems, settings_argument
from trio_gw.config.tiers import known
from trio_gw.errors import Problem, UnusableError, has_errors
from trio_gw.escaping import escape
from trio_gw.routing.export import route_rows

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from trio_gw.cli.control_plane_logins import Logins
    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.config.settings_file import LoadedSettings
    from trio_gw.control_plane.pull import Pulled
    from trio_gw.feed.compile import Compiled

SECONDS = 30.0  # for everything
LONGEST = 3600.0
COLUMNS = ("TOPIC", "API", "BACKEND")


class Found(NamedTuple):
    """What API Manager has, and whether its brokers and receivers can be reached."""

    pulled: Pulled | None
    compiled: Compiled | None
    logins: Logins
    problems: list[Problem]
    seconds: float


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=SECONDS,
        help=f"how long to try (default: {SECONDS:.0f})",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST):
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {LONGEST:.0f}")
    return seconds


def main(options: argparse.Namespace) -> int:
    """Pull; return 1 if something cannot be reached, read or served, else 0."""
    logging.getLogger("trio_gw").addHandler(logging.NullHandler())  # problems say the same
    logging.getLogger("trio_gw").propagate = False
    try:
        loaded = load_settings(options)
        if not loaded.settings.control_plane.url:
            what = "there is no control plane to pull from: control_plane.url is not given"
            raise UnusableError([Problem("settings", 0, 0, what, "see docs/control-plane.md")])
        found = trio.run(_look, loaded, options.timeout)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    failed = has_errors(found.problems)
    if options.json:
        print(json.dumps(_report(found, ok=not failed), indent=2))
    else:
        _show(found)
    return 1 if failed else 0


async def _look(loaded: LoadedSettings, seconds: float) -> Found:
    """Read everything at the same time. Raises `UnusableError`."""
    from trio_gw.control_plane.requirements import require, tls_context

    settings = loaded.settings
    require(settings.control_plane.url)
    from trio_gw.cli.control_plane_logins import Logins  # needs the library

    tls = await trio.to_thread.run_sync(partial(tls_context, settings.control_plane, loaded.base))
    logins = Logins({}, {})
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trio-gw-") as folder:
        pulled: list[Pulled] = []
        problems = list(loaded.problems)

        deadline = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pull, settings, tls, Path(folder), pulled, problems, deadline)
            nursery.start_soon(logins.connect, settings.control_plane, tls, deadline)
        taken = time.monotonic() - began
        problems += logins.problems()
        compiled = None
        if pulled:
            work = partial(_compile, settings, Path(folder), pulled[0])
            compiled, faults = await trio.to_thread.run_sync(work)
            problems += faults
    found = pulled[0] if pulled and not pulled[0].useless else None
    return Found(found, compiled, logins, list(dict.fromkeys(problems)), taken)


async def _pull(
    settings: Settings,
    tls: ssl.SSLContext,
    folder: Path,
    pulled: list[Pulled],
    problems: list[Problem],
    deadline: float,
) -> None:
    """Pull until the deadline; if that is too short, the problems say what is wrong."""
    from trio_gw.control_plane.artifact_folder import ArtifactFolder
    from trio_gw.control_plane.pull import pull
    from trio_gw.control_plane.rest_client import RestClient

    table = settings.control_plane
    async with RestClient(table, tls) as client:
        with trio.CancelScope(deadline=deadline):
            pulled.append(await pull(client, table, ArtifactFolder(folder)))
            problems += pulled[0].problems
            return
        lasting = client.faults.lasting()
        problems += (
            Problem(f"{table.url}: {error.name}", 0, 0, f"API Manager {error.what}", error.hint)
            for error in lasting
        )
        if not lasting:
            hint = "try again with a longer --timeout"
            problems.append(Problem(table.url, 0, 0, "the pull takes too long", hint))


def _compile(settings: Settings, folder: Path, pulled: Pulled) -> tuple[Compiled, list[Problem]]:
    """Load the projects and compile them, as the gateway does. Blocks."""
    from trio_gw.control_plane.artifact_folder import ArtifactFolder
    from trio_gw.control_plane.artifact_loading import NO_API, load_api
    from trio_gw.control_plane.state import EMPTY_STATE
    from trio_gw.feed.compile import compile_snapshots
    from trio_gw.feed.origins import CONTROL_PLANE

    state, zips = pulled.merged(EMPTY_STATE), ArtifactFolder(folder)
    projects: dict[str, ApiProject] = {}
    problems: list[Problem] = []
    for uuid, artifacts in state.artifacts.items():
        api = load_api(zips, uuid, artifacts, state.entitlements.apis.get(uuid), NO_API)
        projects |= api.projects
        problems += api.problems
    compiled = compile_snapshots(
        (projects,),
        settings.known_environments,
        strict_vhosts=settings.strict_vhosts,
        known_tiers={*known(settings.tiers), *_policies(pulled)},
        origins=(CONTROL_PLANE,),
    )
    return compiled, [*problems, *compiled.problems]


def _policies(pulled: Pulled) -> set[str]:
    """Return the names of the policies that API Manager defines."""
    return {row.name for row in pulled.entitlements.policies.values()}


def _counts(pulled: Pulled) -> dict[str, int]:
    rows = pulled.entitlements
    return {
        "apis": len({artifact.uuid for artifact in pulled.artifacts}),
        "applications": len(rows.applications),
        "key_mappings": len(rows.key_mappings),
        "subscriptions": len(rows.subscriptions),
        "policies": len(rows.policies),
        "key_managers": len(rows.key_managers),
        "revoked": len(rows.revoked),
        "blocks": len(rows.blocks),
    }


def _report(found: Found, *, ok: bool) -> dict[str, Any]:
    """Return the result for JSON."""
    return {
        "ok": ok,
        "seconds": round(found.seconds, 3),
        "counts": None if found.pulled is None else _counts(found.pulled),
        "brokers": _connections(found.logins.brokers),
        "receivers": _connections(found.logins.receivers),
        "problems": [msgspec.structs.asdict(problem) for problem in found.problems],
        "routes": [] if found.compiled is None else route_rows(found.compiled.table),
    }


def _connections(found: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"address": address, "connected": not reason, "reason": reason or None}
        for address, reason in found.items()
    ]


def _show(found: Found) -> None:
    """Print the topics with their backends; problems and the summary on standard error."""
    if found.compiled is not None and (rows := route_rows(found.compiled.table)):
        lines = [COLUMNS]
        for row in rows:
            urls = dict.fromkeys((*row["production"], *row["sandbox"]))
            lines.append((row["host"] + row["path"], row["api"], " ".join(urls)))
        print(aligned(lines))
    # Errors last, next to the prompt.
    print_problems(sorted(found.problems, key=lambda problem: problem.severity == "error"))
    for address, reason in {**found.logins.brokers, **found.logins.receivers}.items():
        if not reason:
            print(escape(f"{address}: connected"), file=sys.stderr)
    if found.pulled is not None:
        counts = _counts(found.pulled)
        listed = ", ".join(
            f"{'APIs' if name == 'apis' else name.replace('_', ' ')} {count:,}"
            for name, count in counts.items()
        )
        print(f"{listed}\nread in {found.seconds:.1f} s", file=sys.stderr)
