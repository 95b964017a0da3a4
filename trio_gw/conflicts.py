"""Which project is served where several claim the same: who is served keeps it.

On a host an API claims its id, its name with version, its base path and, as the default version,
its base path without the version. `settle` grants each claim to one project. Who holds a claim
already, by `held`, keeps it as long as it is there and claims it; what nobody holds goes to the
first in the given order. So whoever adds a project takes nothing away from those that are there;
nor by a base path below one with version, as longer base paths are tried first.

A holder is known again by its origin and folder; under another name by its organization and id,
first within its origin. The same API of a more important origin (by the given order) takes its
place. A project of another folder that copies organization and id takes nothing from a holder
that is still there. spec: project-format §7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trio_gw.config.api import ApiProject

ROUNDS = 8  # of granting anew what was held by those that are not served any more


class Claim(NamedTuple):
    """What at most one API has on a host; `value` of an id, a title or a base path."""

    host: str
    kind: Literal["id", "title", "base"]
    value: str


class Holder(msgspec.Struct, frozen=True):
    """Whose a claim is. `folder` is the name of the project within its origin."""

    origin: str
    folder: str
    organization: str
    id: str


class Claimant(NamedTuple):
    """A project, the origin it is from, and the hosts that it asks for."""

    project: ApiProject
    origin: str
    hosts: tuple[str, ...]

    @property
    def holder(self) -> Holder:
        """What it is known by."""
        project = self.project
        name = project.folder.rpartition("/")[2]
        return Holder(self.origin, name, project.organization, project.id)


class Settled(NamedTuple):
    """Who is granted what (by number), and why others are not."""

    granted: dict[Claim, int]
    problems: list[Problem]


def default_base_path(project: ApiProject) -> str:
    """Return the context without version, at which a default version answers too.

    Only the version at the end of the base path is removed; the reference removes every
    occurrence, a bug (spec: routing §4).
    """
    return project.context.rstrip("/")


def settle(
    claimants: Sequence[Claimant],
    held: Mapping[Claim, Holder],
    pause: Callable[[], None],
) -> Settled:
    """Grant claims. The order of the claimants decides about what nobody holds."""
    reserved = _reserved(claimants, held, pause)
    for _ in range(ROUNDS):
        settled, out = _grant(claimants, reserved, pause)
        stale = [claim for claim, number in reserved.items() if (number, claim.host) in out]
        if not stale:
            break
        for claim in stale:
            del reserved[claim]
    return settled


def _reserved(
    claimants: Sequence[Claimant], held: Mapping[Claim, Holder], pause: Callable[[], None]
) -> dict[Claim, int]:
    """Find who of those that are there holds what."""
    if not held:
        return {}
    ranks: dict[str, int] = {}
    for each in claimants:
        ranks.setdefault(each.origin, len(ranks))
    found: dict[Claim, tuple[tuple[int, int], int]] = {}
    for number, each in enumerate(claimants):
        pause()
        own = each.holder
        for host in each.hosts:
            for claim in (*_needed(each.project, host), *_wished(each.project, host)):
                holder = held.get(claim)
                if holder is None or (fit := _fit(own, holder, ranks)) is None:
                    continue
                if claim not in found or fit < found[claim][0]:
                    found[claim] = fit, number
    return {claim: number for claim, (_, number) in found.items()}


def _fit(own: Holder, holder: Holder, ranks: Mapping[str, int]) -> tuple[int, int] | None:
    """Tell how well this is the holder: the lower the better, None if it is another one."""
    same = (own.organization, own.id) == (holder.organization, holder.id)
    rank = ranks[own.origin]
    if own.origin == holder.origin:
        if own.folder == holder.folder:
            return 1, 0
        return (2, 0) if same else None
    if not same:
        return None
    return (0 if rank < ranks.get(holder.origin, len(ranks)) else 3), rank


def _needed(project: ApiProject, host: str) -> tuple[Claim, Claim, Claim]:
    """List what a project is not served without."""
    return (
        Claim(host, "id", project.id),
        Claim(host, "title", f"{project.organization}\n{project.title}"),
        Claim(host, "base", project.base_path.rstrip("/")),
    )


def _wished(project: ApiProject, host: str) -> tuple[Claim, ...]:
    """List what a project is served without if it must be."""
    if not project.default_version:
        return ()
    return (Claim(host, "base", default_base_path(project)),)


def _grant(
    claimants: Sequence[Claimant], reserved: Mapping[Claim, int], pause: Callable[[], None]
) -> tuple[Settled, set[tuple[int, str]]]:
    """Grant claims in order; also tell who (by number and host) is not served."""
    granted: dict[Claim, int] = {}
    problems: list[Problem] = []
    out: set[tuple[int, str]] = set()
    lengths = {len(claim.value) for claim in reserved if claim.kind == "base"}

    def above(claim: Claim, number: int) -> Claim | None:
        """Find a base path that another has held while this one, below it, is new."""
        if not lengths or reserved.get(claim) == number:
            return None
        end = claim.value.find("/", 1)
        while end >= 0:
            if end in lengths:
                upper = claim._replace(value=claim.value[:end])
                whose = reserved.get(upper, number)
                own = claimants[whose].project.base_path.rstrip("/")
                if whose != number and own == upper.value:
                    return upper
            end = claim.value.find("/", end + 1)
        return None

    def other(claim: Claim, number: int) -> int | None:
        """Give the number of whom a claim belongs to, if that is somebody else."""
        found = granted.get(claim, reserved.get(claim, number))
        return None if found == number else found

    for number, (project, _, hosts) in enumerate(claimants):
        pause()
        for host in hosts:
            needed = _needed(project, host)
            for claim in (*needed, above(needed[-1], number)):
                if claim is not None and (whose := other(claim, number)) is not None:
                    problems.append(_problem(project, claim, claimants[whose].project))
                    out.add((number, host))
                    break
            else:
                granted.update(dict.fromkeys(needed, number))
                for claim in _wished(project, host):
                    if (whose := other(claim, number)) is None:
                        granted[claim] = number
                    else:
                        problems.append(_problem(project, claim, claimants[whose].project))
    return Settled(granted, problems), out


def _problem(project: ApiProject, claim: Claim, other: ApiProject) -> Problem:
    """Say what a project does not get, and why."""
    if claim.kind == "id":
        what = f"has the id {project.id} of {other.title} ({other.folder})"
        what += f"; only that is served on {claim.host}"
        mend = "remove one of them, or give one another `id`"
    elif claim.kind == "title":
        what = f"is {project.title}, as {other.folder} is; only that is served on {claim.host}"
        mend = "remove one of them, or give one another `name` or `version`"
    else:
        own = project.base_path.rstrip("/")
        what = f"base path {claim.value or '/'} on {claim.host} is already served by"
        what += f" {other.title} ({other.folder})"
        wished = project.default_version and claim.value == default_base_path(project)
        if own.startswith(f"{claim.value}/") and not wished:
            what += f", and {own} lies below it"
        mend = "change the context or the version of one of them, or remove one"
    return Problem(project.folder, 0, 0, what, mend)
