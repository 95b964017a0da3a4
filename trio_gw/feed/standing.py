"""What a gateway with these settings would serve, as it lies on the disk now. Blocks.

For the command line: what lies in `apis/`, what is deployed, and what git brought last, by the
rules of `feed.deployed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config.placement import vhosts
from trio_gw.feed import gitstate
from trio_gw.feed.deployed import GIT, ORIGIN, Deployed
from trio_gw.feed.depot import Depot
from trio_gw.feed.folder import FOLDER, load_once
from trio_gw.feed.precedence import Precedence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.errors import Problem
    from trio_gw.feed.ledger import Snapshot
    from trio_gw.routing.conflicts import Claim, Holder


class Standing(NamedTuple):
    """The projects of each origin, the most important first, and all that is wrong with them.

    `held` says which of them was served first, where that is known.
    """

    snapshots: tuple[dict[str, ApiProject], ...]
    problems: tuple[Problem, ...]
    origins: tuple[str, ...] = ()
    held: Mapping[Claim, Holder] | None = None


def standing(settings: Settings, base: Path) -> Standing:
    """Load what is there; relative paths of the settings are relative to `base`."""
    found: dict[str, Snapshot] = {}

    def publish(
        origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        found[origin] = projects, problems

    depot = Depot(base / settings.deployed, settings.deployed)
    deployed = Deployed(depot, publish, vhosts(settings.environments))
    if settings.persist:  # else what is there is forgotten at the next start
        deployed.load()
    if settings.git.url:
        digests: dict[str, str] = {}
        projects, problems = gitstate.load_once(settings.git, base, digests.update)
        deployed.git(projects, problems, digests)
    label = settings.apis
    projects, problems = load_once(base / label, label=label, identify=deployed.identify)
    deployed.folder(label, projects, problems)
    names = {ORIGIN: ORIGIN, GIT: GIT, label: FOLDER}
    ordered = [found[origin] for origin in names if origin in found]
    held = {}
    if settings.persist:
        held = Precedence(base / settings.deployed, settings.deployed).read(first=True)
    return Standing(
        tuple(projects for projects, _ in ordered),
        tuple(problem for _, problems in ordered for problem in problems),
        tuple(name for origin, name in names.items() if origin in found),
        held,
    )
