"""What several commands share: finding the settings, and telling problems."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trio_gw.config.settings_file import LoadedSettings, load
from trio_gw.telemetry.logs import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from trio_gw.errors import Problem, UnusableError

DEFAULT_FILE = "gateway.toml"
CONFIG_VARIABLE = "TRIO_GW_CONFIG"


def settings_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"the settings (default: ${CONFIG_VARIABLE}, else ./{DEFAULT_FILE} if it is there)",
    )


def load_settings(options: argparse.Namespace) -> LoadedSettings:
    """Load the settings that the command line asks for.

    Raises `UnusableError` with every problem found.
    """
    path: Path | None = options.config
    if path is None and (named := os.environ.get(CONFIG_VARIABLE)):
        path = Path(named)
    if path is None and Path(DEFAULT_FILE).exists():
        path = Path(DEFAULT_FILE)
    return load(path, os.environ)


def tell(problems: Iterable[Problem]) -> None:
    """Print problems on standard error, one line each."""
    for problem in problems:
        print(escape(str(problem)), file=sys.stderr)


def problems_in(group: BaseExceptionGroup[UnusableError]) -> list[Problem]:
    """Collect the problems of every `UnusableError` in a group, however deep."""
    found: list[Problem] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += problems_in(error)
        else:
            found += error.problems
    return found
