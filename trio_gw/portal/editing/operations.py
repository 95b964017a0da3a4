"""The closed list of operations of the form: each changes the text of a draft. Pure.

An operation that leaves out a value leaves it as it is. spec: portal §2.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from trio_gw.config.inspection import MAX_MESSAGE
from trio_gw.config.text_edit import NotEditableError
from trio_gw.portal.editing import backend_edits
from trio_gw.portal.editing.topic_edits import TopicEdits
from trio_gw.portal.editing.topic_forms import Direction, ParameterForm  # noqa: TC001 - decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.portal.editing.draft_files import DraftFiles

MOST = 200  # operations of one request
DATA = ("data",)
_CORS = (*DATA, "corsConfiguration")
_MUTUAL = {"optional": "mutualssl", "required": "mutualssl_mandatory"}


class _Operation(
    msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True, kw_only=True
):
    """One operation."""

    def apply(self, files: DraftFiles) -> None:
        """Change the files. Raises `NotEditableError`."""
        raise NotImplementedError


class SetGeneral(_Operation, frozen=True, tag="general", kw_only=True):
    """Name, context, version and so on of the API."""

    name: str | UnsetType = UNSET
    context: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    default_version: bool | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    tier: str | UnsetType = UNSET

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        for key, value in (
            ("name", self.name),
            ("context", self.context),
            ("version", self.version),
            ("isDefaultVersion", self.default_version),
            ("apiThrottlingPolicy", self.tier),
        ):
            if value is not UNSET:
                files.set("api", (*DATA, key), value)
        if self.tags is not UNSET:
            files.set("api", (*DATA, "tags"), list(self.tags) or None)


class SetSecurity(_Operation, frozen=True, tag="security", kw_only=True):
    """Who may connect: the header of the token, client certificates, all topics open or not."""

    token_header: str | UnsetType = UNSET
    mutual_tls: Literal["ignored", "optional", "required"] | UnsetType = UNSET
    secured: bool | UnsetType = UNSET

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        if self.token_header is not UNSET:
            files.set("api", (*DATA, "authorizationHeader"), self.token_header or None)
        if self.mutual_tls is not UNSET:
            held = files.value("api", *DATA, "securityScheme")
            schemes = [each for each in held or ["oauth2"] if each not in _MUTUAL.values()]
            if self.mutual_tls in _MUTUAL:
                schemes.append(_MUTUAL[self.mutual_tls])
            changed = None if schemes == ["oauth2"] and not held else schemes
            files.set("api", (*DATA, "securityScheme"), changed)
        if self.secured is not UNSET:
            topics = TopicEdits(files)
            for topic in topics.forms():
                if topic.secured != self.secured:
                    topics.set_secured(topic.name, secured=self.secured)


class SetScopes(_Operation, frozen=True, tag="scopes", kw_only=True):
    """The scopes of the API, with their descriptions."""

    scopes: dict[str, str]

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        base = ("components", "securitySchemes")
        schemes = files.value("asyncapi", *base)
        found = [
            name
            for name, each in (schemes.items() if isinstance(schemes, dict) else ())
            if isinstance(each, dict) and str(each.get("type")).casefold() == "oauth2"
        ]
        name = found[0] if found else "oauth2"
        if not found:
            files.set("asyncapi", (*base, name, "type"), "oauth2")
        flows = files.value("asyncapi", *base, name, "flows")
        flow = next(iter(flows), "") if isinstance(flows, dict) else ""
        place = (*base, name, "flows", flow or "clientCredentials")
        three = str(files.value("asyncapi", "asyncapi")).startswith("3")
        if not flow:
            files.set("asyncapi", (*place, "tokenUrl"), "https://localhost:9095/testkey")
        files.set("asyncapi", (*place, "availableScopes" if three else "scopes"), {**self.scopes})


class SetCors(_Operation, frozen=True, tag="cors", kw_only=True):
    """Which web pages may connect; not `own`: the settings of the gateway apply."""

    own: bool | UnsetType = UNSET
    origins: list[str] | UnsetType = UNSET
    credentials: bool | UnsetType = UNSET

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        if self.own is not UNSET and (self.own or files.value("api", *_CORS) is not None):
            files.set("api", (*_CORS, "corsConfigurationEnabled"), self.own)
        if self.origins is not UNSET:
            files.set("api", (*_CORS, "accessControlAllowOrigins"), list(self.origins))
        elif self.own is True and not files.value("api", *_CORS, "accessControlAllowOrigins"):
            files.set("api", (*_CORS, "accessControlAllowOrigins"), ["*"])
        if self.credentials is not UNSET:
            files.set("api", (*_CORS, "accessControlAllowCredentials"), self.credentials)


class Placed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An environment, and its host if that is not the usual one."""

    environment: str
    vhost: str = ""


class SetDeployments(_Operation, frozen=True, tag="deployments", kw_only=True):
    """Where the API is served; none: the environment `Default`."""

    deployments: list[Placed]

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        listed: list[Any] = [
            {"deploymentEnvironment": one.environment}
            | ({"deploymentVhost": one.vhost} if one.vhost else {})
            for one in self.deployments or [Placed("Default")]
        ]
        if not files.path_of("deployments"):
            if not self.deployments:
                return
            text = "type: deployment_environments\nversion: v4.1.0\ndata: []\n"
            files.add("deployment_environments.yaml", text)
        files.set("deployments", ("data",), listed)


class AddTopic(_Operation, frozen=True, tag="add_topic", kw_only=True):
    """A new topic."""

    name: str
    direction: Direction = "send"

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        TopicEdits(files).add(self.name, self.direction)


class RenameTopic(_Operation, frozen=True, tag="rename_topic", kw_only=True):
    """Another path for a topic."""

    name: str
    to: str

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        TopicEdits(files).rename(self.name, self.to)


class RemoveTopic(_Operation, frozen=True, tag="remove_topic", kw_only=True):
    """A topic is removed."""

    name: str

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        TopicEdits(files).remove(self.name)


class SetTopic(_Operation, frozen=True, tag="topic", kw_only=True):
    """What a topic asks for, and where it leads; empty texts and null remove a value."""

    name: str
    direction: Direction | UnsetType = UNSET
    mapping: str | UnsetType = UNSET
    pass_path: bool | UnsetType = UNSET
    plain_http: bool | UnsetType = UNSET
    scopes: list[str] | UnsetType = UNSET
    secured: bool | UnsetType = UNSET
    tier: str | UnsetType = UNSET
    max_message: int | UnsetType | None = UNSET
    parameter: ParameterForm | UnsetType = UNSET

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        topics, name = TopicEdits(files), self.name
        if self.direction is not UNSET:
            topics.set_direction(name, self.direction)
        if self.mapping is not UNSET:
            topics.set(name, "x-uri-mapping", self.mapping or None)
        for key, flag in (
            ("x-trio-gw-pass-path", self.pass_path),
            ("x-trio-gw-plain-http", self.plain_http),
        ):
            if flag is not UNSET:
                held = next(each for each in topics.forms() if each.name == name)
                topics.set(name, key, flag or None)
                now = next(each for each in topics.forms() if each.name == name)
                attribute = "pass_path" if "pass" in key else "plain_http"
                if getattr(now, attribute) != flag and getattr(held, attribute) != flag:
                    topics.set(name, key, flag)  # the root of the definition says otherwise
        if self.scopes is not UNSET:
            topics.set(name, "x-scopes", list(self.scopes) or None)
        if self.secured is not UNSET:
            topics.set_secured(name, secured=self.secured)
        if self.tier is not UNSET:
            topics.set_tier(name, self.tier)
        if self.max_message is not UNSET:
            topics.set(name, MAX_MESSAGE, self.max_message)
        if self.parameter is not UNSET:
            topics.set_parameter(name, self.parameter)


class SetEndpoints(_Operation, frozen=True, tag="endpoints", kw_only=True):
    """The backends of one side; with `failovers` the first gets all traffic while it is up."""

    side: backend_edits.BackendSide
    urls: list[str] | UnsetType = UNSET
    failovers: list[str] | UnsetType = UNSET

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        held = backend_edits.form(files, self.side)
        urls = held.urls if self.urls is UNSET else self.urls
        failovers = held.failovers if self.failovers is UNSET else self.failovers
        backend_edits.set_endpoints(files, self.side, urls, failovers)


class SetCalling(_Operation, frozen=True, tag="calling", kw_only=True):
    """How the backends of one side are called; null: as the gateway does."""

    side: backend_edits.BackendSide
    timeout: int | UnsetType | None = UNSET
    retries: int | UnsetType | None = UNSET

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        held = backend_edits.form(files, self.side)
        timeout = held.timeout if self.timeout is UNSET else self.timeout
        retries = held.retries if self.retries is UNSET else self.retries
        backend_edits.set_calling(files, self.side, timeout, retries)


class SetCredential(_Operation, frozen=True, tag="credential", kw_only=True):
    """The user and password that the gateway sends to the backends of one side."""

    side: backend_edits.BackendSide
    username: str = ""
    password: str = ""

    def apply(self, files: DraftFiles) -> None:
        """Change the files; without a user name the credential is removed."""
        backend_edits.set_credential(files, self.side, self.username, self.password)


class AddCertificate(_Operation, frozen=True, tag="certificate", kw_only=True):
    """A certificate to trust for one backend."""

    endpoint: str
    name: str
    pem: str

    def apply(self, files: DraftFiles) -> None:
        """Change the files."""
        backend_edits.add_certificate(files, self.endpoint, self.name, self.pem)


Operation = (
    SetGeneral
    | SetSecurity
    | SetScopes
    | SetCors
    | SetDeployments
    | AddTopic
    | RenameTopic
    | RemoveTopic
    | SetTopic
    | SetEndpoints
    | SetCalling
    | SetCredential
    | AddCertificate
)


def apply(files: DraftFiles, operations: Sequence[Operation]) -> None:
    """Apply operations in their order. Raises `NotEditableError`; then the files are of no use."""
    if len(operations) > MOST:
        raise NotEditableError(f"more than {MOST} operations at once")
    for operation in operations:
        operation.apply(files)
