"""What a gateway with these settings would serve, from the files on disk. Blocks.

For the command line: the projects in `apis/`, the deployed ones, and the last git commit, combined
by the rules of `feed.deployment_source`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config.placement import vhosts
from trio_gw.feed import origins
from trio_gw.feed.deployment_store import INDEX, DeploymentStore
from trio_gw.feed.load_folder import load_once
from trio_gw.feed.precedence import Precedence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.errors import Problem
    from trio_gw.feed.folder_source import PublishSnapshot
    from trio_gw.feed.project_state import Snapshot
    from trio_gw.routing.conflicts import Claim, Holder


class OfflineSnapshot(NamedTuple):
    """The projects of each origin, the most important origin first, and all their problems.

    `held` maps claims to the projects that were served first, if that is known.
    """

    snapshots: tuple[dict[str, ApiProject], ...]
    problems: tuple[Problem, ...]
    origins: tuple[str, ...] = ()
    held: Mapping[Claim, Holder] | None = None


def load_offline(settings: Settings, base: Path) -> OfflineSnapshot:
    """Load all projects; relative paths of the settings are relative to `base`."""
    found: dict[str, Snapshot] = {}

    def publish(
        origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        found[origin] = projects, problems

    label = settings.apis
    if settings.git.url or not _is_absent(base / settings.deployed / INDEX):
        _load_all(settings, base, publish)
    else:  # nothing is deployed, so the folder is all
        projects, problems = load_once(base / label, label=label)
        publish(label, projects, problems)
    names = {origins.DEPLOYED: origins.DEPLOYED, origins.GIT: origins.GIT, label: origins.APIS}
    ordered = [found[origin] for origin in names if origin in found]
    held = {}
    if settings.persist:
        held = Precedence(base / settings.deployed, settings.deployed).read(first=True)
    return OfflineSnapshot(
        tuple(projects for projects, _ in ordered),
        tuple(problem for _, problems in ordered for problem in problems),
        tuple(name for origin, name in names.items() if origin in found),
        held,
    )


def _load_all(settings: Settings, base: Path, publish: PublishSnapshot) -> None:
    """Load deployments, the last commit and the folder."""
    # These import the event loop, which a check of a folder alone does not need.
    from trio_gw.feed.commit_store import load_once as load_commit
    from trio_gw.feed.deployment_source import DeploymentSource

    store = DeploymentStore(base / settings.deployed, settings.deployed)
    deployments = DeploymentSource(store, publish, vhosts(settings.known_environments))
    if settings.persist:  # otherwise a start removes all deployments
        deployments.load()
    if settings.git.url:
        digests: dict[str, str] = {}
        projects, problems = load_commit(settings.git, base, digests.update)
        deployments.update_git(projects, problems, digests)
    label = settings.apis
    projects, problems = load_once(base / label, label=label, identify=deployments.identify)
    deployments.update_folder(label, projects, problems)


def _is_absent(path: Path) -> bool:
    """Return whether there is no such file. One that cannot be read is there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False
