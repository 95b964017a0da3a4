"""Functions that several commands share: load the settings, print problems and tables."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trio_gw.config.settings_file import LoadedSettings, load
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from trio_gw.errors import Problem, UnusableError

DEFAULT_FILE = "gateway.toml"
CONFIG_VARIABLE = "TRIO_GW_CONFIG"
_BOLD, _RED, _GREEN, _YELLOW, _PLAIN = (f"\x1b[{code}m" for code in (1, 31, 32, 33, 0))


def settings_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"the settings (default: ${CONFIG_VARIABLE}, else ./{DEFAULT_FILE} if it exists)",
    )


def load_settings(options: argparse.Namespace) -> LoadedSettings:
    """Load the settings that the command line names.

    Raises `UnusableError` with every problem found.
    """
    path: Path | None = options.config
    if path is None and (named := os.environ.get(CONFIG_VARIABLE)):
        path = Path(named)
    if path is None and Path(DEFAULT_FILE).exists():
        path = Path(DEFAULT_FILE)
    return load(path, os.environ)


def print_problems(problems: Iterable[Problem]) -> None:
    """Print problems on standard error, one line each; in colour on a terminal."""
    colours = _wants_colour(sys.stderr)
    for problem in problems:
        print(coloured(problem) if colours else escape(str(problem)), file=sys.stderr)


def _wants_colour(stream: TextIO) -> bool:
    """Follow https://no-color.org and the capabilities of the terminal."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(problem: Problem) -> str:
    """Write a problem as `str` does, with colours."""
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    warning = problem.severity == "warning"
    colour, word = (_YELLOW, "warning") if warning else (_RED, "error")
    hint = f"; {_GREEN}{escape(problem.hint)}{_PLAIN}" if problem.hint else ""
    return f"{_BOLD}{escape(place)}{_PLAIN}: {colour}{word}{_PLAIN}: {escape(problem.what)}{hint}"


def problems_in(group: BaseExceptionGroup[UnusableError]) -> list[Problem]:
    """Collect the problems of every `UnusableError` in a group, at any depth."""
    found: list[Problem] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += problems_in(error)
        else:
            found += error.problems
    return found


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Write rows of cells as columns; characters that break a line are escaped."""
    lines = [[escape(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def named_api(text: str, command: str) -> dict[str, str] | None:
    """Return the query that names an API as NAME:VERSION; print what is wrong with another text."""
    name, colon, version = text.rpartition(":")
    if not (colon and name and version):
        print(f"trio-gw {command}: name the API as NAME:VERSION", file=sys.stderr)
        return None
    return {"apiName": name, "version": version}
