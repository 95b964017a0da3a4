"""Conflicts between projects: when several claim the same, the project already served keeps it.

On each host, an API claims its id, its name with version, its base path, and, as the default
version, its base path without the version. `resolve` grants each claim to one project. A project
that already holds a claim (`held`) keeps it as long as it exists and claims it. Other claims go to
the first project in the given order. So a new project takes nothing from existing ones. This also
covers a base path below that of an existing API: longer base paths are tried first, so it would
take requests from that API.

A holder is recognized by origin and folder. If its folder was renamed, it is recognized by
organization and id, first within the same origin. The same API from a more important origin (by
the given order) replaces it. A project in another folder that copies organization and id takes
nothing from a holder that still exists. spec: project-format §7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trio_gw.config.api import ApiProject

ROUNDS = 8  # passes that grant again the claims of holders that are not served any more


class Claim(NamedTuple):
    """Something that at most one API can have on a host; `value` is an id, title or base path."""

    host: str
    kind: Literal["id", "title", "base"]
    value: str


class Holder(msgspec.Struct, frozen=True):
    """The project that has a claim. `folder` is its name within its origin."""

    origin: str
    folder: str
    organization: str
    id: str


class Claimant(NamedTuple):
    """A project, its origin, and the hosts on which it should be served."""

    project: ApiProject
    origin: str
    hosts: tuple[str, ...]

    @property
    def holder(self) -> Holder:
        """The identity of this project as a holder."""
        project = self.project
        name = project.folder.rpartition("/")[2]
        return Holder(self.origin, name, project.organization, project.id)


class Resolution(NamedTuple):
    """The number of the claimant for each granted claim, and problems for claims not granted."""

    granted: dict[Claim, int]
    problems: list[Problem]


def default_base_path(project: ApiProject) -> str:
    """Return the context without version; a default version is served there as well.

    Only the version at the end of the base path is removed. The reference removes every
    occurrence, which is a bug (spec: routing §4).
    """
    return project.context.rstrip("/")


def resolve(
    claimants: Sequence[Claimant],
    held: Mapping[Claim, Holder],
    pause: Callable[[], None],
) -> Resolution:
    """Grant claims. Claims without a holder go to the first claimant that needs them."""
    reserved = _reserved(claimants, held, pause)
    for _ in range(ROUNDS):
        resolution, out = _grant(claimants, reserved, pause)
        stale = [claim for claim, number in reserved.items() if (number, claim.host) in out]
        if not stale:
            break
        for claim in stale:
            del reserved[claim]
    return resolution


def _reserved(
    claimants: Sequence[Claimant], held: Mapping[Claim, Holder], pause: Callable[[], None]
) -> dict[Claim, int]:
    """Find the claimants that hold claims already."""
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
            for claim in (*_required(each.project, host), *_optional(each.project, host)):
                holder = held.get(claim)
                if holder is None or (fit := _fit(own, holder, ranks)) is None:
                    continue
                if claim not in found or fit < found[claim][0]:
                    found[claim] = fit, number
    return {claim: number for claim, (_, number) in found.items()}


def _fit(own: Holder, holder: Holder, ranks: Mapping[str, int]) -> tuple[int, int] | None:
    """Return how well a claimant matches the holder, lower is better; None for another project."""
    same = (own.organization, own.id) == (holder.organization, holder.id)
    rank = ranks[own.origin]
    if own.origin == holder.origin:
        if own.folder == holder.folder:
            return 1, 0
        return (2, 0) if same else None
    if not same:
        return None
    return (0 if rank < ranks.get(holder.origin, len(ranks)) else 3), rank


def _required(project: ApiProject, host: str) -> tuple[Claim, Claim, Claim]:
    """List the claims that a project needs in order to be served."""
    return (
        Claim(host, "id", project.id),
        Claim(host, "title", f"{project.organization}\n{project.title}"),
        Claim(host, "base", project.base_path.rstrip("/")),
    )


def _optional(project: ApiProject, host: str) -> tuple[Claim, ...]:
    """List the claims that a project can be served without."""
    if not project.default_version:
        return ()
    return (Claim(host, "base", default_base_path(project)),)


def _grant(
    claimants: Sequence[Claimant], reserved: Mapping[Claim, int], pause: Callable[[], None]
) -> tuple[Resolution, set[tuple[int, str]]]:
    """Grant claims in order. Also return (number, host) of each claimant that is not served."""
    granted: dict[Claim, int] = {}
    problems: list[Problem] = []
    out: set[tuple[int, str]] = set()
    lengths = {len(claim.value) for claim in reserved if claim.kind == "base"}

    def above(claim: Claim, number: int) -> Claim | None:
        """Find a base path above a new claim that another project holds."""
        if not lengths or reserved.get(claim) == number:
            return None
        end = claim.value.find("/", 1)
        while end >= 0:
            if end in lengths:
                upper = claim._replace(value=claim.value[:end])
                holder = reserved.get(upper, number)
                own = claimants[holder].project.base_path.rstrip("/")
                if holder != number and own == upper.value:
                    return upper
            end = claim.value.find("/", end + 1)
        return None

    def other(claim: Claim, number: int) -> int | None:
        """Return the number of the claimant that has a claim, None if it is `number` or nobody."""
        found = granted.get(claim, reserved.get(claim, number))
        return None if found == number else found

    for number, (project, _, hosts) in enumerate(claimants):
        pause()
        for host in hosts:
            required = _required(project, host)
            for claim in (*required, above(required[-1], number)):
                if claim is not None and (winner := other(claim, number)) is not None:
                    problems.append(_problem(project, claim, claimants[winner].project))
                    out.add((number, host))
                    break
            else:
                granted.update(dict.fromkeys(required, number))
                for claim in _optional(project, host):
                    if (winner := other(claim, number)) is None:
                        granted[claim] = number
                    else:
                        problems.append(_problem(project, claim, claimants[winner].project))
    return Resolution(granted, problems), out


def _problem(project: ApiProject, claim: Claim, other: ApiProject) -> Problem:
    """Describe a claim that was not granted, and the reason."""
    if claim.kind == "id":
        what = f"has the same id {project.id} as {other.title} ({other.folder}),"
        what += f" which is served on {claim.host} instead"
        hint = "remove one of them, or change the `id` of one"
    elif claim.kind == "title":
        what = f"has the same name and version {project.title} as {other.folder},"
        what += f" which is served on {claim.host} instead"
        hint = "remove one of them, or change the `name` or `version` of one"
    else:
        own = project.base_path.rstrip("/")
        what = f"base path {claim.value or '/'} on {claim.host} is already served by"
        what += f" {other.title} ({other.folder})"
        optional = project.default_version and claim.value == default_base_path(project)
        if own.startswith(f"{claim.value}/") and not optional:
            what += f", and {own} is below it"
        hint = "change the context or the version of one of them, or remove one"
    return Problem(project.folder, 0, 0, what, hint)
