"""`trio-gw init`: a complete API project from an AsyncAPI document, or from nothing."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.cli.common import tell
from trio_gw.config import (
    asyncapi,
    channel_name,
    document,
    endpoint,
    project,
    scaffold,
    servers,
)
from trio_gw.config.convert import convert
from trio_gw.config.findings import Findings, WrongError, printable
from trio_gw.config.nodes import Mapping
from trio_gw.errors import Problem, UnusableError, has_errors
from trio_gw.telemetry.logs import escape

if TYPE_CHECKING:
    import argparse

    from trio_gw.config.api import ApiProject
    from trio_gw.config.asyncapi import Definition

DEFAULT_VERSION = "1.0.0"
EVERYTHING = "/*"


class UsageError(Exception):
    """The command line asks for something that cannot be; says what, and how to mend it."""


class Source(NamedTuple):
    """A definition that was given: its file, and what it says."""

    path: Path
    data: bytes
    findings: Findings
    declared: Definition
    title: str
    version: str


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
        plan, files = _planned(options, source)
        output: Path = options.output or Path("apis", scaffold.folder_from(plan))
        made = _checked(files, output, source)
        _write(files, output)
    except UsageError as error:
        print(f"trio-gw init: {printable(str(error))}", file=sys.stderr)
        return 2
    except UnusableError as error:
        tell(error.problems)
        return 1
    print("\n".join(map(escape, _next_steps(made, output, files))))
    return 0


def _read(path: Path) -> Source:
    """Read the document, and name every fault in it at its own place."""
    try:
        data = path.read_bytes()
    except OSError as error:
        what = f"the document cannot be read: {error.strerror}"
        raise UnusableError([Problem(str(path), 0, 0, what, "name another file")]) from None
    findings = Findings(document.read(data, str(path)))
    info = convert(_Root, findings).info
    declared = asyncapi.read(findings, lone=True)
    if has_errors(findings.problems):
        raise UnusableError(findings.problems)
    return Source(path, data, findings, declared, info.title, info.version)


def _planned(
    options: argparse.Namespace, source: Source | None
) -> tuple[scaffold.Plan, dict[str, str]]:
    """Settle what the project is, and the text of its files."""
    name = options.name or scaffold.name_from("" if source is None else source.title)
    if not name.strip():
        raise UsageError("the API has no name; add --name, such as --name Chat")
    if source is not None and options.topic:
        raise UsageError("--topic goes with a new definition; add it to the file of --from instead")
    version = options.version or (source and source.version) or DEFAULT_VERSION
    context = options.context or scaffold.context_from(name)
    plan = scaffold.Plan(name, version, context, production=options.backend or "")
    if options.backend is not None:
        try:
            endpoint.parse(options.backend)
        except WrongError as error:
            raise UsageError(f"--backend: {error.what}; {error.mend}") from None
    if source is None:
        if not plan.production:
            raise UsageError("the API has no backend; add --backend, such as --backend ws://…")
        topics = list(dict.fromkeys(options.topic or [EVERYTHING]))
        definition = scaffold.asyncapi_yaml(plan, topics)
        return plan, _files(plan, "asyncapi.yaml", definition)
    plan, text = _settled(plan, source)
    is_json = text.lstrip("\ufeff \t\r\n").startswith("{")
    if not is_json:
        text = text.rstrip("\n") + "\n" + scaffold.KEYS
    return plan, _files(plan, "asyncapi.json" if is_json else "asyncapi.yaml", text)


def _files(plan: scaffold.Plan, name: str, definition: str) -> dict[str, str]:
    return {"api.yaml": scaffold.api_yaml(plan), f"Definitions/{name}": definition}


def _settled(plan: scaffold.Plan, source: Source) -> tuple[scaffold.Plan, str]:
    """Settle who names the backend. Servers that nobody would call are taken out."""
    text = source.data.decode("utf-8-sig")
    node = source.findings.document.node(("servers",))
    names = list(node.entries) if isinstance(node, Mapping) else []
    others = [name for name in names if name.casefold() not in servers.SIDES]
    declared = source.declared
    if not plan.production:
        if declared.production is None and declared.sandbox is None:
            found = f" (it has {', '.join(names[:10])})" if names else ""
            raise UsageError(
                f"{source.path} has no server that is the backend{found};"
                " add --backend, such as --backend ws://…, or name a server `production`"
            )
        if not others or len(names) == 1:
            return plan, text
    elif not names:
        return plan, text
    if any(source.findings.document.node(("servers", name, "security")) for name in names):
        # What a server asks for protects the topics: it is not to get lost here.
        if plan.production:
            raise UsageError(
                f"`servers` of {source.path} holds `security`, which --backend would take out;"
                " leave --backend out, or move `security` to the operations"
            )
        return plan, text
    if not plan.production:
        plan = msgspec.structs.replace(
            plan,
            production=str(declared.production or ""),
            sandbox=str(declared.sandbox or ""),
        )
    try:
        return plan, scaffold.without_servers(text, source.findings.document)
    except WrongError as error:
        problem = Problem(str(source.path), 0, 0, error.what, error.mend)
        raise UnusableError([problem]) from None


def _checked(files: dict[str, str], output: Path, source: Source | None) -> ApiProject:
    """Read the project as the gateway will; what is wrong with it is told in the user's terms."""
    held = {name: text.encode() for name, text in files.items()}
    loaded = project.load(held, str(output))
    found = []
    for problem in loaded.problems:
        if source is not None and "/Definitions/" in problem.file:
            problem = msgspec.structs.replace(problem, file=str(source.path))
        elif problem.severity == "error":
            option = "--topic: " if "/Definitions/" in problem.file else ""
            raise UsageError(f"{option}{problem.what}; {problem.mend}")
        found.append(problem)
    if loaded.project is None:
        raise UnusableError(found)
    tell(found)
    return loaded.project


def _write(files: dict[str, str], output: Path) -> None:
    """Write the folder under a hidden name, which no gateway reads, and rename it."""
    aside = output.parent / f".init-{secrets.token_hex(8)}"
    try:
        if os.path.lexists(output):
            what, mend = "this exists already", "name another folder with --output, or remove it"
            raise UnusableError([Problem(str(output), 0, 0, what, mend)])
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
        mend = "choose another place with --output"
        raise UnusableError([Problem(str(output), 0, 0, what, mend)]) from None


def _next_steps(made: ApiProject, output: Path, files: dict[str, str]) -> tuple[str, ...]:
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
        *(f"  {output / name}" for name in files),
        "",
        "Next:",
        f"  trio-gw check {shown}",
        f"  {run}trio-gw run",
        f"  {line}",
    )
