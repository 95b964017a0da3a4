"""`trio-gw init`: a complete API project from an AsyncAPI document, or from nothing."""

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
    """The command line asks for something that cannot be; says what, and how to fix it."""


class Source(NamedTuple):
    """A document that was given: its text, made whole, and what it says.

    `files` are those beside it that were taken in.
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
    """What is to be made: the files by name, and what is to be said about it."""

    plan: scaffold.Plan
    files: dict[str, str]
    problems: tuple[Problem, ...] = ()
    said: tuple[str, ...] = ()


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
        help="an AsyncAPI document, 2.x or 3.x; it is taken over, comments and all",
    )
    parser.add_argument("--name", help="the API's name (default: made from the document's title)")
    parser.add_argument(
        "--context", metavar="/PATH", help="where it is served (default: made from the name)"
    )
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="ws://… or wss://…; takes the place of the document's `servers`",
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
        help="the folder to make, which must not exist (default: apis/<name>-<version>)",
    )


def main(options: argparse.Namespace) -> int:
    """Make the project; returns 0, 1 when it cannot be made, 2 when it was asked for wrongly."""
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
    """Read the document, and the files beside it that it refers to."""
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
    """Read a file below the folder of the document; links must not lead out of it either."""
    real = (folder / name).resolve(strict=True)
    if not real.is_relative_to(folder.resolve()):
        raise OSError(errno.EPERM, "it is a link that leads out of the document's folder")
    if not real.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    if real.stat().st_size > document.MAX_SIZE:
        raise OSError(errno.EFBIG, f"it has more than {document.MAX_SIZE:,} bytes")
    return real.read_bytes()


def _planned(options: argparse.Namespace, source: Source | None) -> Planned:
    """Settle what the project is, and the text of its files."""
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
    """Settle the backend and the topics of a document, and write them into it."""
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
    said = []
    if source.files:
        said.append(f"taken in: {_some(source.files)}")
    if names.left_out:
        said.append(f"left out, being channels of other servers: {_some(names.left_out)}")
    said += [
        f"`{name[:80]}` is served as {channel_name.placed(name, subjects=False)[:80]}"
        for name in names.relative[: adoption.MAX_NAMES]
    ]
    if more := names.relative[adoption.MAX_NAMES :]:
        said.append(f"{len(more)} more names are served with `/` in front")
    return Planned(plan, files, (*choice.problems, *names.problems), tuple(said))


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name[:80]}`" for name in names[: adoption.MAX_NAMES])
    more = len(names) - adoption.MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _files(plan: scaffold.Plan, name: str, definition: str) -> dict[str, str]:
    return {"api.yaml": scaffold.api_yaml(plan), f"Definitions/{name}": definition}


def _checked(planned: Planned, output: Path, source: Source | None) -> ApiProject:
    """Read the project as the gateway will; what is wrong with it is told in the user's terms."""
    held = {name: text.encode() for name, text in planned.files.items()}
    loaded = project.load(held, str(output))
    found = [*(source.problems if source else ()), *planned.problems]
    for problem in loaded.problems:
        if source is not None and "/Definitions/" in problem.file:
            # In a text that was put together from several files, line numbers have no meaning.
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
    """Write the folder under a hidden name, which no gateway reads, and rename it."""
    aside = output.parent / f".init-{secrets.token_hex(8)}"
    try:
        if os.path.lexists(output):
            what, hint = "this exists already", "name another folder with --output, or remove it"
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
    """Say what was made and which commands come next."""
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
        *planned.said,
        *([f"not enforced: {', '.join(made.unenforced)}"] if made.unenforced else ()),
        "",
        "Next:",
        f"  trio-gw check {shown}",
        f"  {run}trio-gw run",
        f"  {line}",
    )
