"""Makes the files of a new API project: from an AsyncAPI document, or from a backend alone.

Called by the command `init` and by the portal. The result is read by the gateway's own loader
before it is returned, so that a project that cannot be served is never written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from trio_gw.config import (
    adoption,
    asyncapi,
    bundle,
    channel_name,
    document,
    endpoint,
    extensions,
    project,
    scaffold,
    yamltext,
)
from trio_gw.config.convert import convert
from trio_gw.config.faults import WrongError
from trio_gw.config.findings import Findings
from trio_gw.errors import Problem, UnusableError, has_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.api import ApiProject
    from trio_gw.config.document import Document

DEFAULT_VERSION = "1.0.0"
EVERYTHING = "/*"

Field = Literal["name", "version", "context", "backend", "topics", "server", ""]


class InputError(Exception):
    """An input cannot be used. `missing`: it is needed, and was not given at all."""

    def __init__(self, field: Field, what: str, hint: str, *, missing: bool = False) -> None:
        super().__init__(f"{what}; {hint}")
        self.field = field
        self.what = what
        self.hint = hint
        self.missing = missing


class SourceDocument(NamedTuple):
    """An AsyncAPI document: its complete text and its content.

    `file` is its name in messages; `files` are the referenced files that were included.
    """

    file: str
    text: str
    found: Document
    major: int
    title: str
    version: str
    problems: tuple[Problem, ...]
    files: tuple[str, ...]


class Inputs(NamedTuple):
    """What the user gives; an empty text is chosen here. `server` names one of a document."""

    name: str = ""
    version: str = ""
    context: str = ""
    backend: str = ""
    topics: tuple[str, ...] = ()
    server: str = ""


class NewProject(NamedTuple):
    """The files of a project by name, what the loader made of them, and messages for the user."""

    plan: scaffold.Plan
    files: dict[str, str]
    project: ApiProject
    problems: tuple[Problem, ...]
    messages: tuple[str, ...]


class _Files(NamedTuple):
    plan: scaffold.Plan
    files: dict[str, str]
    problems: tuple[Problem, ...] = ()
    messages: tuple[str, ...] = ()


class _Info(msgspec.Struct, frozen=True):
    title: str = ""
    version: str = ""


class _Root(msgspec.Struct, frozen=True):
    info: _Info = _Info()


def read_document(
    data: bytes, file: str, name: str, beside: Callable[[str], bytes]
) -> SourceDocument:
    """Read a document, and the files beside it to which it refers.

    `file` is its name in messages, `name` its name in its folder; `beside` reads another file of
    that folder, or raises OSError. Raises `UnusableError` if the document cannot be used.
    """
    found = document.read(data, file)
    text = data.decode("utf-8-sig")
    problems: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    if bundle.needed(found.root):
        whole = document.read(data, file, whole=True)
        made = bundle.bundle(whole, name, beside)
        problems, files = made.problems, made.files
        text = yamltext.dump(made.root)
        found = document.read(text.encode(), file)
    findings = Findings(found)
    info = convert(_Root, findings).info
    version = asyncapi.version(findings)
    if version is None or has_errors(findings.problems):
        raise UnusableError([*problems, *findings.problems])
    return SourceDocument(file, text, found, version[0], info.title, info.version, problems, files)


def make(
    inputs: Inputs,
    source: SourceDocument | None,
    place: Callable[[scaffold.Plan], str] = scaffold.folder_from,
) -> NewProject:
    """Make a project; `place` names its folder in messages.

    Raises `InputError` for an input that cannot be used, `adoption.AmbiguousError` if a document
    has several possible backends, and `UnusableError` for a document that cannot be served.
    """
    planned = _planned(inputs, source)
    return _checked(planned, place(planned.plan), source)


def _planned(inputs: Inputs, source: SourceDocument | None) -> _Files:
    """Plan the project and the text of its files."""
    name = inputs.name or scaffold.name_from("" if source is None else source.title)
    if not name.strip():
        raise InputError("name", "the API has no name", "give it one, such as Chat", missing=True)
    if source is not None and inputs.topics:
        what = "topics go with a new definition"
        raise InputError("topics", what, "add them to the document instead")
    if source is None and inputs.server:
        what = "a server is one of a document's servers"
        raise InputError("server", what, "give a document, too")
    version = inputs.version or (source and source.version) or DEFAULT_VERSION
    context = inputs.context or scaffold.context_from(name)
    plan = scaffold.Plan(name, version, context, production=inputs.backend)
    if inputs.backend:
        try:
            endpoint.parse(inputs.backend)
        except WrongError as error:
            raise InputError("backend", error.what, error.hint) from None
    if source is None:
        if not plan.production:
            what = "the API has no backend"
            raise InputError("backend", what, "give its URL, such as ws://…", missing=True)
        topics = list(dict.fromkeys(inputs.topics or [EVERYTHING]))
        return _Files(plan, _named(plan, "asyncapi.yaml", scaffold.asyncapi_yaml(plan, topics)))
    return _adopted(plan, source, inputs.server)


def _adopted(plan: scaffold.Plan, source: SourceDocument, server: str) -> _Files:
    """Determine the backend and the topics of a document, and write them into it."""
    found, major = source.found, source.major
    choice = adoption.choose(found, major, named=server, backend=plan.production)
    if not (choice.production or choice.sandbox or adoption.has_servers(found)):
        what = f"{source.file} has no server that is the backend"
        hint = "give the URL of the backend, such as ws://…, or name a server `production`"
        raise InputError("backend", what, hint, missing=True)
    names = adoption.names(found, major, choice)
    plan = msgspec.structs.replace(plan, production=choice.production, sandbox=choice.sandbox)
    keys: dict[str, str | bool] = {extensions.PASS_PATH: True}
    if choice.server:
        keys[extensions.SERVER] = choice.server
    if names.kind:
        keys[extensions.CHANNEL_NAMES] = names.kind
    text = adoption.marked(source.text, keys, scaffold.KEYS)
    is_json = text.lstrip("\ufeff \t\r\n").startswith("{")
    files = _named(plan, "asyncapi.json" if is_json else "asyncapi.yaml", text)
    messages = []
    if source.files:
        messages.append(f"included: {_some(source.files)}")
    if names.left_out:
        messages.append(f"left out, channels of other servers: {_some(names.left_out)}")
    messages += [
        f"`{name[:80]}` is served as {channel_name.placed(name, subjects=False)[:80]}"
        for name in names.relative[: adoption.MAX_NAMES]
    ]
    if more := names.relative[adoption.MAX_NAMES :]:
        messages.append(f"{len(more)} more names are served with `/` in front")
    return _Files(plan, files, (*choice.problems, *names.problems), tuple(messages))


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name[:80]}`" for name in names[: adoption.MAX_NAMES])
    more = len(names) - adoption.MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _named(plan: scaffold.Plan, name: str, definition: str) -> dict[str, str]:
    return {"api.yaml": scaffold.api_yaml(plan), f"Definitions/{name}": definition}


def _checked(planned: _Files, folder: str, source: SourceDocument | None) -> NewProject:
    """Read the project as the gateway does; report problems in terms of the inputs."""
    held = {name: text.encode() for name, text in planned.files.items()}
    loaded = project.load(held, folder)
    found = [*(source.problems if source else ()), *planned.problems]
    for problem in loaded.problems:
        if source is not None and "/Definitions/" in problem.file:
            # In a text made from several files, line numbers have no meaning.
            line = 0 if source.files else problem.line
            problem = msgspec.structs.replace(problem, file=source.file, line=line)
        elif problem.severity == "error":
            raise InputError(_field(problem), problem.what, problem.hint)
        found.append(problem)
    if loaded.project is None:
        raise UnusableError(found)
    return NewProject(planned.plan, planned.files, loaded.project, tuple(found), planned.messages)


def _field(problem: Problem) -> Field:
    """Find the input that a problem of the written files is about."""
    if "/Definitions/" in problem.file:
        return "topics"
    for field in ("version", "context", "name"):
        if f"`{field}`" in problem.what:
            return field
    return ""
