"""The values of a draft as the form shows them, read from its text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config.text_edit import NotEditableError
from trio_gw.portal.editing import backend_edits
from trio_gw.portal.editing.operations import DATA, Placed
from trio_gw.portal.editing.topic_forms import TopicForm, TopicReader

if TYPE_CHECKING:
    from trio_gw.portal.editing.draft_files import DraftFiles


class ApiForm(msgspec.Struct, frozen=True):
    """What api.yaml says."""

    name: str
    context: str
    version: str
    default_version: bool
    tags: tuple[str, ...]
    tier: str
    token_header: str
    mutual_tls: str
    cors: bool
    cors_origins: tuple[str, ...]
    cors_credentials: bool
    production: backend_edits.SideForm
    sandbox: backend_edits.SideForm


class ProjectForm(msgspec.Struct, frozen=True):
    """The form: None where a file cannot be edited by it, and the reasons by kind of file."""

    api: ApiForm | None
    topics: tuple[TopicForm, ...] | None
    scopes: dict[str, str]
    deployments: tuple[Placed, ...] | None
    off: dict[str, str]
    paths: dict[str, str]


def read(files: DraftFiles) -> ProjectForm:
    """Read the form of a draft. Never raises for what the files hold."""
    off = {kind: why for kind in ("api", "asyncapi") if (why := files.why_not(kind))}
    deployments: tuple[Placed, ...] | None = ()
    if files.path_of("deployments"):
        deployments = None
        if why := files.why_not("deployments"):
            off["deployments"] = why
        else:
            deployments = _deployments(files)
    topics: tuple[TopicForm, ...] | None = None
    scopes: dict[str, str] = {}
    if "asyncapi" not in off:
        try:
            topics = tuple(TopicReader(files).forms())
            scopes = _scopes(files)
        except NotEditableError as error:
            off["asyncapi"] = str(error)
    return ProjectForm(
        None if "api" in off else _api(files),
        topics,
        scopes,
        deployments,
        off,
        {"api": files.path_of("api"), "asyncapi": files.path_of("asyncapi")},
    )


def _api(files: DraftFiles) -> ApiForm:
    def text(*path: str) -> str:
        value = files.value("api", *DATA, *path)
        return "" if isinstance(value, dict | list) or value is None else _written(value)

    def texts(*path: str) -> tuple[str, ...]:
        value = files.value("api", *DATA, *path)
        return tuple(map(_written, value)) if isinstance(value, list) else ()

    schemes = {each.casefold() for each in texts("securityScheme")}
    mutual = "required" if "mutualssl_mandatory" in schemes else "ignored"
    if mutual == "ignored" and "mutualssl" in schemes:
        mutual = "optional"
    cors = "corsConfiguration"
    return ApiForm(
        name=text("name"),
        context=text("context"),
        version=text("version"),
        default_version=text("isDefaultVersion") == "true",
        tags=texts("tags"),
        tier=text("apiThrottlingPolicy") or "Unlimited",
        token_header=text("authorizationHeader"),
        mutual_tls=mutual,
        cors=text(cors, "corsConfigurationEnabled") == "true",
        cors_origins=texts(cors, "accessControlAllowOrigins"),
        cors_credentials=text(cors, "accessControlAllowCredentials") == "true",
        production=backend_edits.form(files, "production"),
        sandbox=backend_edits.form(files, "sandbox"),
    )


def _written(value: Any) -> str:  # noqa: ANN401 - a value of a file
    return str(value).lower() if isinstance(value, bool) else str(value)


def _deployments(files: DraftFiles) -> tuple[Placed, ...]:
    listed = files.value("deployments", "data")
    return tuple(
        Placed(str(each.get("deploymentEnvironment") or ""), str(each.get("deploymentVhost") or ""))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    )


def _scopes(files: DraftFiles) -> dict[str, str]:
    schemes = files.value("asyncapi", "components", "securitySchemes")
    found: dict[str, str] = {}
    for scheme in schemes.values() if isinstance(schemes, dict) else ():
        flows = scheme.get("flows") if isinstance(scheme, dict) else None
        for flow in flows.values() if isinstance(flows, dict) else ():
            for key in ("scopes", "availableScopes") if isinstance(flow, dict) else ():
                given = flow.get(key)
                for name, what in given.items() if isinstance(given, dict) else ():
                    found[name] = "" if what is None else str(what)
    return found
