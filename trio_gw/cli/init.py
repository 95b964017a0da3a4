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
from typing import TYPE_CHECKING

from trio_gw.cli.common import print_problems
from trio_gw.config import adoption, channel_name, document, endpoint, new_project, scaffold
from trio_gw.config.faults import WrongError, printable
from trio_gw.errors import Problem, UnusableError
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse


# The options of the inputs, and how to give those that are missing.
_OPTIONS: dict[new_project.Field, str] = {"topics": "--topic", "backend": "--backend"}
_MISSING: dict[new_project.Field, str] = {
    "name": "add --name, such as --name Chat",
    "backend": "add --backend, such as --backend ws://…",
}
_UNSUITED: dict[new_project.Field, str] = {
    "topics": "--topic goes with a new definition; add it to the file of --from instead",
    "server": "--server names one of a document's servers; add --from FILE",
}


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
        help="a topic, such as /rooms/{id}; may be given several times"
        f" (default: {new_project.EVERYTHING})",
    )
    parser.add_argument(
        "--version",
        metavar="TEXT",
        help=f"the API's version (default: the document's, else {new_project.DEFAULT_VERSION})",
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
        made, output = _made(options, source)
        print_problems(made.problems)
        _write(made.files, output)
    except new_project.InputError as error:
        return _wrong(_said(error, options))
    except adoption.AmbiguousError as error:
        return _wrong(str(error))
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    print("\n".join(map(escape, _next_steps(made, output))))
    return 0


def _wrong(said: str) -> int:
    print(f"trio-gw init: {printable(said)}", file=sys.stderr)
    return 2


def _said(error: new_project.InputError, options: argparse.Namespace) -> str:
    """Say what is wrong with an input in terms of the options."""
    given_document = options.source is not None
    if (error.field == "topics" and given_document) or error.field == "server":
        return _UNSUITED[error.field]
    if error.missing:
        hint = _MISSING[error.field]
        named = given_document and error.field == "backend"
        return f"{error.what}; {hint}{', or name a server `production`' if named else ''}"
    prefix = f"{_OPTIONS[error.field]}: " if error.field in _OPTIONS else ""
    other = "; or name another with --version" if error.field == "version" else ""
    return f"{prefix}{error.what}; {error.hint}{other}"


def _made(
    options: argparse.Namespace, source: new_project.SourceDocument | None
) -> tuple[new_project.NewProject, Path]:
    """Make the project, and choose its folder."""
    inputs = new_project.Inputs(
        name=options.name or "",
        version=options.version or "",
        context=options.context or "",
        backend=_given(options.backend),
        topics=tuple(options.topic or ()),
        server=options.server or "",
    )

    def place(plan: scaffold.Plan) -> Path:
        return options.output or Path("apis", scaffold.folder_from(plan))

    made = new_project.make(inputs, source, lambda plan: str(place(plan)))
    return made, place(made.plan)


def _given(backend: str | None) -> str:
    """Refuse an option that is given, but empty."""
    if backend is not None and not backend:
        try:
            endpoint.parse(backend)
        except WrongError as error:
            raise new_project.InputError("backend", error.what, error.hint) from None
    return backend or ""


def _read(path: Path) -> new_project.SourceDocument:
    """Read the document and the files to which it refers."""
    try:
        data = path.read_bytes()
    except OSError as error:
        what = f"the document cannot be read: {error.strerror}"
        raise UnusableError([Problem(str(path), 0, 0, what, "name another file")]) from None
    return new_project.read_document(data, str(path), path.name, partial(_beside, path.parent))


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


def _next_steps(new: new_project.NewProject, output: Path) -> tuple[str, ...]:
    """Return lines with the result and the next commands."""
    shown = shlex.quote(str(output))
    where, made = output.parent, new.project
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
        *(f"  {output / name}" for name in new.files),
        *new.messages,
        *([f"not enforced: {', '.join(made.unenforced)}"] if made.unenforced else ()),
        "",
        "Next:",
        f"  trio-gw check {shown}",
        f"  {run}trio-gw run",
        f"  {line}",
    )
