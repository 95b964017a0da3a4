"""The source of deployed projects: a project loaded for a deployment is not loaded again."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from support.adminapi import packed
from support.projects import api, asyncapi, write
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.deployer import Deployer
from trio_gw.feed.deployment_source import DeploymentSource
from trio_gw.feed.deployment_store import DeploymentStore
from trio_gw.feed.origins import DEPLOYED
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from trio_gw.config.api import ApiProject
    from trio_gw.errors import Problem

HOSTS = {"Default": "localhost"}


class Published:
    """What the source publishes, by origin."""

    def __init__(self, folder: Path) -> None:
        self.snapshots: dict[str, tuple[dict[str, ApiProject], tuple[Problem, ...]]] = {}
        self.store = DeploymentStore(folder / "deployed", "deployed")
        self.source = DeploymentSource(self.store, self.publish, HOSTS)

    def publish(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        self.snapshots[origin] = projects, problems


def uploaded(base: Path, **more: Any) -> io.BytesIO:
    """Zip a project, perhaps with other `components` than are fine."""
    meta = api("Pets", "/pets", "ws://localhost:1")
    definition = asyncapi({"/*": {"publish": {"x-scopes": ["a"]}}}, **more)
    return io.BytesIO(packed(write(base / "aside", "pets", meta, definition), "pets"))


async def test_it_is_the_project_that_everybody_else_loads(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    here, there = Published(tmp_path), Published(tmp_path)
    live = Live(EMPTY)
    catalog = Catalog(live, (), origins=(DEPLOYED,), strict_vhosts=False, known_tiers={})
    await nursery.start(here.source.run)
    await nursery.start(catalog.run)
    catalog.publish(DEPLOYED, {}, ())
    deployer = Deployer(here.source, catalog, live, HOSTS)
    outcome = await deployer.deploy(uploaded(tmp_path, components={}), "some.zip", override=False)
    assert outcome.status == "deployed"
    assert {problem.file.partition("/")[0] for problem in outcome.problems} == {"some.zip"}
    there.source.load()
    (entry,) = here.source.index.entries
    projects, problems = here.snapshots[DEPLOYED]
    assert projects[entry.file].folder == f"deployed/{entry.file}"
    (problem,) = problems
    assert problem.file == f"deployed/{entry.file}/pets/Definitions/asyncapi.yaml"
    assert here.snapshots == there.snapshots


async def test_what_is_expected_is_not_read(nursery: trio.Nursery, tmp_path: Path) -> None:
    here, there = Published(tmp_path), Published(tmp_path)
    live = Live(EMPTY)
    catalog = Catalog(live, (), origins=(DEPLOYED,), strict_vhosts=False, known_tiers={})
    await nursery.start(catalog.run)
    catalog.publish(DEPLOYED, {}, ())
    deployer = Deployer(here.source, catalog, live, HOSTS)
    outcome = await deployer.deploy(uploaded(tmp_path), "some.zip", override=False)
    assert outcome.project is not None
    (entry,) = here.source.index.entries
    (tmp_path / "deployed" / entry.file).unlink()
    with there.source.expecting(entry.file, outcome.project, outcome.problems):
        await there.source.refresh()
    assert there.snapshots == here.snapshots
    # Only as long as it is expected.
    fresh = Published(tmp_path)
    with pytest.raises(RuntimeError), fresh.source.expecting(entry.file, outcome.project, ()):
        raise RuntimeError
    await fresh.source.refresh()
    assert [problem.what for problem in fresh.snapshots[DEPLOYED][1]] == [
        "is deployed, but the file is missing"
    ]
