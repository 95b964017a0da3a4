"""Replaces `${NAME}` in the texts of a document by environment variables.

Called by `settings_file` before it reads any key. `$${` is a literal `${`. A value with a missing
variable is reported and left out, so that an incomplete text is never used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from trio_gw.config.faults import dotted
from trio_gw.config.settings_schema import DROPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trio_gw.config.faults import KeyPath

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expand(
    document: dict[str, Any],
    environ: Mapping[str, str],
    report: Callable[[KeyPath, str, str], None],
) -> dict[str, Any]:
    """Return the document with every variable replaced; call `report` for each that is missing.

    Its arguments are the path of the key, what is wrong, and a hint.
    """

    def value_of(value: object, path: KeyPath) -> object:
        if isinstance(value, dict):
            return table(value, path)
        if isinstance(value, list):
            items = [value_of(child, (*path, index)) for index, child in enumerate(value)]
            return DROPPED if any(item is DROPPED for item in items) else items
        return text(value, path) if isinstance(value, str) and "${" in value else value

    def table(values: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        children = {key: value_of(child, (*path, key)) for key, child in values.items()}
        return {key: child for key, child in children.items() if child is not DROPPED}

    def text(value: str, path: KeyPath) -> object:
        bad = False

        def replacement(match: re.Match[str]) -> str:
            nonlocal bad
            if match[0] == "$${":
                return "${"
            name = match[1]
            if not match[2] or not _NAME.fullmatch(name):
                what = f"{dotted(path)} has a `${{` that starts no variable name"
                report(path, what, "write ${NAME}, or $${ for the text ${")
            elif name in environ:
                return environ[name]
            else:
                what = f"{dotted(path)} needs the environment variable {name}, which is not set"
                report(path, what, f"set {name}, or write $${{ for the text ${{")
            bad = True
            return ""

        expanded = _VARIABLE.sub(replacement, value)
        return DROPPED if bad else expanded

    return table(document, ())
