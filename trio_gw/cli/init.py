"""`trio-gw init`: makes a complete API project, from an AsyncAPI document or without one."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.cli.common import print_problems
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
from trio_gw.config.faults import WrongError, printable
from trio_gw.config.findings import Findings
from trio_gw.errors import Problem, UnusableError, has_errors
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse

    from trio_gw.config.api import ApiProject
    from trio_gw.config.document import Document

DEFAULT_VERSION = "1.0.0"
EVERYTHING = "/*"


class UsageError(Exception):
    """The arguments cannot be used; the text gives the reason and a hint."""


class Source(NamedTuple):
    """An AsyncAPI document: its complete text and its content.

    `files` are the referenced files that were included.
    """

    path: Path
    text: str
    found: Document
    major: int
    title: str
    version: str
    problems: tuple[Problem, ...]
    files: tuple[str, ...]


class Planned(NamedTuple):
    """The planned project: its files by name, and messages for the user."""

    plan: scaffold.Plan
    files: dict[str, str]
    problems: tuple[Problem, ...] = ()
    messages: tuple[str, ...] = ()


class _Info(msgspec.Struct, frozen=True):
    title: str = ""
    version: str = ""


class _Root(msgspec.Struct, frozen=True):
    info: _Info = _Info()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        type=Path,
        help="an AsyncAPI document, 2.x or 3.x; it is copied with its comments",
    )
    parser.add_argument("--name", help="the API's name (default: made from the document's title)")
    parser.add_argument(
        "--context", metavar="/PATH", help="where it is served (default: made from the name)"
    )
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="ws://… or wss://…; replaces the document's `servers`",
    )
    parser.add_argument(
        "--server",
        metavar="NAME",
        help="which of the document's `servers` is the backend",
    )
    parser.add_argument(
        "--topic",
        metavar="/PATH",
        action="append",
        help=f"a topic, such as /rooms/{{id}}; may be given several times (default: {EVERYTHING})",
    )
    parser.add_argument(
        "--version",
        metavar="TEXT",
        help=f"the API's version (default: the document's, else {DEFAULT_VERSION})",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="the new folder (default: apis/<name>-<version>)",
    )


def main(options: argparse.Namespace) -> int:
    """Make the project; return 0, 1 if that is not possible, 2 for wrong arguments."""
    try:
        source = None if options.source is None else _read(options.source)
        planned = _planned(options, source)
        output: Path = options.output or Path("apis", scaffold.folder_from(planned.plan))
        made = _checked(planned, output, source)
        _write(planned.files, output)
    except (UsageError, adoption.AmbiguousError) as error:
        print(f"trio-gw init: {printable(str(error))}", file=sys.stderr)
        return 2
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    print("\n".join(map(escape, _next_steps(made, output, planned))))
    return 0


def _read(path: Path) -> Source:
    """Read the document and the files to which it refers."""
    try:
        data = path.read_bytes()
    except OSError as error:
        what = f"the document cannot be read: {error.strerror}"
        raise UnusableError([Problem(str(path), 0, 0, what, "name another file")]) from None
    found = document.read(data, str(path))
    text = data.decode("utf-8-sig")
    problems: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    if bundle.needed(found.root):
        whole = document.read(data, str(path), whole=True)
        made = bundle.bundle(whole, path.name, partial(_beside, path.parent))
        problems, files = made.problems, made.files
        text = yamltext.dump(made.root)
        found = document.read(text.encode(), str(path))
    findings = Findings(found)
    info = convert(_Root, findings).info
    version = asyncapi.version(findings)
    if version is None or has_errors(findings.problems):
        raise UnusableError([*problems, *findings.problems])
    return Source(path, text, found, version[0], info.title, info.version, problems, files)


def _beside(folder: Path, name: str) -> bytes:
    """Read a file below the folder of the document; links must not lead out of the folder."""
    real = (folder / name).resolve(strict=True)
    if not real.is_relative_to(folder.resolve()):
        raise OSError(errno.EPERM, "it is a link that leads out of the document's folder")
    if not real.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    if real.stat().st_size > document.MAX_SIZE:
        raise OSError(errno.EFBIG, f"it has more than {document.MAX_SIZE:,} bytes")
    return real.read_bytes()


def _planned(options: argparse.Namespace, source: Source | None) -> Planned:
    """Plan the project and the text of its files."""
    name = options.name or scaffold.name_from("" if source is None else source.title)
    if not name.strip():
        raise UsageError("the API has no name; add --name, such as --name Chat")
    if source is not None and options.topic:
        raise UsageError("--topic goes with a new definition; add it to the file of --from instead")
    if source is None and options.server:
        raise UsageError("--server names one of a document's servers; add --from FILE")
    version = options.version or (source and source.version) or DEFAULT_VERSION
    context = options.context or scaffold.context_from(name)
    plan = scaffold.Plan(name, version, context, production=options.backend or "")
    if options.backend is not None:
        try:
            endpoint.parse(options.backend)
        except WrongError as error:
            raise UsageError(f"--backend: {error.what}; {error.hint}") from None
    if source is None:
        if not plan.production:
            raise UsageError("the API has no backend; add --backend, such as --backend ws://…")
        topics = list(dict.fromkeys(options.topic or [EVERYTHING]))
        definition = scaffold.asyncapi_yaml(plan, topics)
        return Planned(plan, _files(plan, "asyncapi.yaml", definition))
    return _adopted(plan, source, options.server or "")


def _adopted(plan: scaffold.Plan, source: Source, server: str) -> Planned:
    """Determine the backend and the topics of a document, and write them into it."""
    found, major = source.found, source.major
    choice = adoption.choose(found, major, named=server, backend=plan.production)
    if not (choice.production or choice.sandbox or adoption.has_servers(found)):
        raise UsageError(
            f"{source.path} has no server that is the backend; add --backend, such as"
            " --backend ws://…, or name a server `production`"
        )
    names = adoption.names(found, major, choice)
    plan = msgspec.structs.replace(plan, production=choice.production, sandbox=choice.sandbox)
    keys: dict[str, str | bool] = {extensions.PASS_PATH: True}
    if choice.server:
        keys[extensions.SERVER] = choice.server
    if names.kind:
        keys[extensions.CHANNEL_NAMES] = names.kind
    text = adoption.marked(source.text, keys, scaffold.KEYS)
    is_json = text.lstrip("\ufeff \t\r\n").startswith("{")
    files = _files(plan, "asyncapi.json" if is_json else "asyncapi.yaml", text)
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
    return Planned(plan, files, (*choice.problems, *names.problems), tuple(messages))


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name[:80]}`" for name in names[: adoption.MAX_NAMES])
    more = len(names) - adoption.MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _files(plan: scaffold.Plan, name: str, definition: str) -> dict[str, str]:
    return {"api.yaml": scaffold.api_yaml(plan), f"Definitions/{name}": definition}


def _checked(planned: Planned, output: Path, source: Source | None) -> ApiProject:
    """Read the project as the gateway does; report problems in terms of the arguments."""
    held = {name: text.encode() for name, text in planned.files.items()}
    loaded = project.load(held, str(output))
    found = [*(source.problems if source else ()), *planned.problems]
    for problem in loaded.problems:
        if source is not None and "/Definitions/" in problem.file:
            # In a text made from several files, line numbers have no meaning.
            line = 0 if source.files else problem.line
            problem = msgspec.structs.replace(problem, file=str(source.path), line=line)
        elif problem.severity == "error":
            option = "--topic: " if "/Definitions/" in problem.file else ""
            hint = problem.hint
            if "`version`" in problem.what:
                hint += "; or name another with --version"
            raise UsageError(f"{option}{problem.what}; {hint}")
        found.append(problem)
    if loaded.project is None:
        raise UnusableError(found)
    print_problems(found)
    return loaded.project


def _write(files: dict[str, str], output: Path) -> None:
    """Write the folder with a hidden name, which the gateway ignores, then rename it."""
    aside = output.parent / f".init-{secrets.token_hex(8)}"
    try:
        if os.path.lexists(output):
            what = "the folder exists already"
            hint = "name another folder with --output, or remove it"
            raise UnusableError([Problem(str(output), 0, 0, what, hint)])
        output.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        try:
            for name, text in files.items():
                path = aside / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            aside.rename(output)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        what = f"the project cannot be written: {error.strerror}"
        hint = "choose another place with --output"
        raise UnusableError([Problem(str(output), 0, 0, what, hint)]) from None


def _next_steps(made: ApiProject, output: Path, planned: Planned) -> tuple[str, ...]:
    """Return lines with the result and the next commands."""
    shown = shlex.quote(str(output))
    where = output.parent
    run = "" if where == Path("apis") else f"TRIO_GW_APIS={shlex.quote(str(where))} "
    topic = made.topics[0]
    path = topic.name.removesuffix("/*")
    for name in channel_name.parameters(path):
        path = path.replace(f"{{{name}}}", "1")
    url = f"ws://localhost:9090{made.base_path}{path}"
    line = f"npx wscat -c {shlex.quote(url)}"
    if topic.secured:
        scopes = "".join(f" --scope {shlex.quote(scope)}" for scope in (topic.scopes or ())[:1])
        line += f' -H "Authorization: Bearer $(trio-gw token{scopes})"'
    topics = f"{len(made.topics)} topic{'s' if len(made.topics) != 1 else ''}"
    return (
        f"made {output}: {made.title} at {made.base_path}, {topics}",
        *(f"  {output / name}" for name in planned.files),
        *planned.messages,
        *([f"not enforced: {', '.join(made.unenforced)}"] if made.unenforced else ()),
        "",
        "Next:",
        f"  trio-gw check {shown}",
        f"  {run}trio-gw run",
        f"  {line}",
    )
