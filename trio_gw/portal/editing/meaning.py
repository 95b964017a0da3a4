"""What a change of a project means for those who use it: routes, access, backends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.config.placement import placements
from trio_gw.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trio_gw.config.api import ApiProject, Cluster
    from trio_gw.config.placement import Placement

ChangeKind = Literal[
    "added", "removed", "opened", "secured", "scopes", "backend", "limit", "moved", "other"
]
MOST = 200  # changes listed


class ProjectChange(msgspec.Struct, frozen=True):
    """One change. `topic` is empty if it is about the whole API; `grave`: look at it twice."""

    kind: ChangeKind
    topic: str
    text: str
    grave: bool = False


def changes(
    before: ApiProject | None, after: ApiProject, vhost_of: Mapping[str, str]
) -> list[ProjectChange]:
    """List what changes, the grave ones first; everything is new without a project before.

    `vhost_of` maps the known environments to their hosts.
    """
    found = list(_of_api(before, after)) if before is not None else []
    if before is not None:
        found += _of_places(
            set(placements(before.deployments, vhost_of)),
            set(placements(after.deployments, vhost_of)),
        )
    found += _of_topics(before, after)
    found.sort(key=lambda change: not change.grave)
    if len(found) > MOST:
        more = len(found) - MOST
        found[MOST:] = [ProjectChange("other", "", f"{more} more changes are not listed")]
    return found


def _of_topics(before: ApiProject | None, after: ApiProject) -> Iterator[ProjectChange]:
    old = {} if before is None else {each.name: Route(before, each) for each in before.topics}
    new = {each.name: Route(after, each) for each in after.topics}
    for name, route in new.items():
        if name not in old:
            text = "new topic"
            if route.topic.scopes:
                text += f", asks for {_scopes(route)}"
            yield ProjectChange("added", name, text)
            if not route.secured:
                yield ProjectChange(
                    "opened", name, "new and open: it asks for no token", grave=True
                )
        else:
            yield from _of_topic(name, old[name], route)
    for name in old.keys() - new.keys():
        yield ProjectChange("removed", name, "removed: clients get 404 from now on", grave=True)


def _of_topic(name: str, old: Route, new: Route) -> Iterator[ProjectChange]:
    if old.secured and not new.secured:
        yield ProjectChange("opened", name, "now open: it asks for no token any more", grave=True)
    elif new.secured and not old.secured:
        yield ProjectChange("secured", name, "now asks for a token")
    if new.secured and set(old.topic.scopes or ()) != set(new.topic.scopes or ()):
        had = _scopes(old)
        if not new.topic.scopes:
            text = f"any valid token is enough now, {had} before"
            yield ProjectChange("scopes", name, text, grave=True)
        else:
            yield ProjectChange("scopes", name, f"now asks for {_scopes(new)}, {had} before")
    if old.topic.api_keys != new.topic.api_keys:
        text = "takes API keys now" if new.topic.api_keys else "takes no API keys any more"
        yield ProjectChange("other", name, text)
    for kind in ("production", "sandbox"):
        had_urls, has_urls = old.backend_urls(kind), new.backend_urls(kind)
        if had_urls != has_urls and had_urls and has_urls:
            text = f"{kind}: goes to {_few(has_urls)}, to {_few(had_urls)} before"
            yield ProjectChange("backend", name, text)
    if old.topic.tier != new.topic.tier:
        text = f"tier {new.topic.tier or 'none'}, {old.topic.tier or 'none'} before"
        yield ProjectChange("limit", name, text)
    sizes = [
        each.topic.inspection.max_message if each.topic.inspection else each.topic.max_message
        for each in (old, new)
    ]
    if sizes[0] != sizes[1]:
        yield ProjectChange(
            "limit", name, f"messages up to {_size(sizes[1])}, {_size(sizes[0])} before"
        )
    if bool(old.topic.inspection) != bool(new.topic.inspection):
        text = "is looked at" if new.topic.inspection else "is not looked at any more"
        yield ProjectChange("other", name, f"each message {text}")
    if old.topic.plain_http != new.topic.plain_http:
        text = "accepts" if new.topic.plain_http else "does not accept"
        yield ProjectChange("other", name, f"{text} plain HTTP requests")


def _of_api(before: ApiProject, after: ApiProject) -> Iterator[ProjectChange]:
    if (before.organization, before.id) != (after.organization, after.id):
        text = f"this is another API than {before.title}, which stays as it is beside it"
        yield ProjectChange("other", "", text, grave=True)
    elif before.title != after.title:
        yield ProjectChange("other", "", f"it is called {after.title} now, {before.title} before")
    if before.base_path != after.base_path:
        text = f"clients find it at {after.base_path}, not at {before.base_path} any more"
        yield ProjectChange("moved", "", text, grave=True)
    if before.lifecycle != after.lifecycle:
        text = f"lifeCycleStatus {after.lifecycle}, {before.lifecycle} before"
        yield ProjectChange("other", "", text, grave=after.lifecycle == "PROTOTYPED")
    if before.default_version != after.default_version:
        text = "answers" if after.default_version else "does not answer any more"
        yield ProjectChange("moved", "", f"it {text} without the version in the path")
    for kind, old, new in (
        ("production", before.production, after.production),
        ("sandbox", before.sandbox, after.sandbox),
    ):
        yield from _of_cluster(kind, old, new)
    if before.tier != after.tier:
        yield ProjectChange("limit", "", f"tier {after.tier}, {before.tier} before")
    if before.authorization_header != after.authorization_header:
        name = after.authorization_header or "the one of the settings"
        yield ProjectChange("other", "", f"the token is in the header {name}", grave=True)
    if before.mutual_tls != after.mutual_tls:
        text = f"client certificates are {after.mutual_tls}, {before.mutual_tls} before"
        yield ProjectChange("secured", "", text, grave=before.mutual_tls == "required")
    if before.client_certificates != after.client_certificates:
        yield ProjectChange("other", "", "other client certificates")
    if before.cors != after.cors:
        own = after.cors is not None
        origins = ", ".join(after.cors.allow_origins[:5]) if after.cors else ""
        text = f"web pages of {origins or 'nobody'} may connect" if own else "CORS of the settings"
        yield ProjectChange("other", "", text)


def _of_places(before: set[Placement], after: set[Placement]) -> Iterator[ProjectChange]:
    for one in sorted(after - before):
        yield ProjectChange("moved", "", f"also served in {one.environment} on {one.host}")
    for one in sorted(before - after):
        text = f"not served in {one.environment} on {one.host} any more"
        yield ProjectChange("moved", "", text, grave=True)


def _of_cluster(kind: str, old: Cluster | None, new: Cluster | None) -> Iterator[ProjectChange]:
    if old is None or new is None:
        if old is not None:
            text = f"no {kind} backend any more: its tokens are refused"
            yield ProjectChange("backend", "", text, grave=True)
        elif new is not None:
            text = f"new {kind} backend {_few([str(each) for each in new.endpoints])}"
            yield ProjectChange("backend", "", text)
        return
    if old.failover != new.failover:
        text = "the others are called while the first is down" if new.failover else "take turns"
        yield ProjectChange("backend", "", f"{kind}: {text}")
    elif len(old.endpoints) != len(new.endpoints):
        text = f"{kind}: {len(new.endpoints)} backends, {len(old.endpoints)} before"
        yield ProjectChange("backend", "", text)
    if [each.trust for each in old.endpoints] != [each.trust for each in new.endpoints]:
        yield ProjectChange("backend", "", f"{kind}: other certificates are trusted")
    if old.timeout != new.timeout:
        text = f"{new.timeout:g} s" if new.timeout is not None else "that of the settings"
        yield ProjectChange("backend", "", f"{kind}: the timeout is {text}")
    if old.retries != new.retries:
        yield ProjectChange("backend", "", f"{kind}: {new.retries} retries, {old.retries} before")
    if old.basic != new.basic:
        text = "another credential is sent" if new.basic else "no credential is sent any more"
        yield ProjectChange("backend", "", f"{kind}: {text}")


def _scopes(route: Route) -> str:
    scopes = route.topic.scopes or ()
    shown = " or ".join(f"`{scope[:60]}`" for scope in scopes[:5])
    more = f" or {len(scopes) - 5} others" if len(scopes) > 5 else ""
    return f"{shown}{more}" if scopes else "any valid token"


def _few(urls: list[str]) -> str:
    shown = ", ".join(url[:120] for url in urls[:3])
    return f"{shown} and {len(urls) - 3} more" if len(urls) > 3 else shown


def _size(size: int | None) -> str:
    return "any size" if size is None else f"{size:,} bytes"
