"""`trio-gw convert`: converts a Choreo Connect configuration to `gateway.toml`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trio_gw.cli.common import print_problems
from trio_gw.config.choreo import convert
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    import argparse

MAX_SIZE = 1024 * 1024


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", metavar="config.toml", type=Path, help="Choreo Connect's own file")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="write to this new file, which only you can read, instead of to standard output",
    )


def main(options: argparse.Namespace) -> int:
    """Convert; return 1 if the file cannot be read or the output cannot be written."""
    try:
        made = convert(_read(options.file), str(options.file))
        if options.output is not None:
            _write(options.output, made.text)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    print_problems(made.problems)
    if made.variables:
        names = ", ".join(made.variables)
        print(f"the settings need the environment variables {names}", file=sys.stderr)
    if options.output is None:
        sys.stdout.write(made.text)
    return 0


def _read(path: Path) -> str:
    what = ""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        what, hint = f"the file cannot be read: {error.strerror}", "name another file"
    except UnicodeDecodeError:
        what, hint = "the file is not UTF-8 text", "save the file as UTF-8"
    else:
        if len(data) <= MAX_SIZE:
            return text.replace("\r\n", "\n")
        what, hint = f"the file has more than {MAX_SIZE:,} bytes", "is it the right one?"
    raise UnusableError([Problem(str(path), 0, 0, what, hint)])


def _write(path: Path, text: str) -> None:
    """Write a new file. It can contain passwords, so only its owner can read it."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        what, hint = "the file exists already", "name another file, or remove it"
    except OSError as error:
        what, hint = f"the file cannot be written: {error.strerror}", "name another place"
    else:
        return
    raise UnusableError([Problem(str(path), 0, 0, what, hint)])
