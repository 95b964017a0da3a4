"""Conversion of single values of a Choreo Connect configuration; None for what is no such value.

Called by `choreo_keys`.
"""

from __future__ import annotations

import re
from typing import Any

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: Any) -> float | None:  # noqa: ANN401 - whatever the file has
    """Convert a duration of Go to seconds."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) * _UNITS[found[2]] if found else None


def number(value: Any) -> float | None:  # noqa: ANN401
    """Convert a number."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else None


def milliseconds(value: Any) -> float | None:  # noqa: ANN401
    """Convert milliseconds to seconds."""
    found = number(value)
    return None if found is None else found / 1000


def seconds_or_five(value: Any) -> float | None:  # noqa: ANN401
    """Convert seconds; 0 means 5 in the reference."""
    found = number(value)
    return 5.0 if found == 0 else found


def labels(value: Any) -> list[str] | None:  # noqa: ANN401
    """Convert a list of environments; an empty one means `Default`."""
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return (value or ["Default"]) if texts else None


def apis(value: Any) -> str | None:  # noqa: ANN401
    """Convert the folder of artifacts to the folder of the projects in it."""
    return f"{value.rstrip('/')}/apis" if isinstance(value, str) and value else None


def key_id(value: Any) -> str | None:  # noqa: ANN401
    """Convert whether a JWT names its key by `kid`."""
    return {True: "kid", False: "x5t"}.get(value) if isinstance(value, bool) else None


def tls_version(value: Any) -> str | None:  # noqa: ANN401
    """Convert a version; for an unknown text Envoy decides, and begins with TLS 1.2."""
    if not isinstance(value, str):
        return None
    return {"TLS1_0": "1.0", "TLS1_1": "1.1", "TLS1_3": "1.3"}.get(value, "1.2")


def ciphers(value: Any) -> str | None:  # noqa: ANN401
    """Convert a list of ciphers to the form of OpenSSL."""
    parts = re.split(r"[\s,:]+", value.strip()) if isinstance(value, str) else []
    return ":".join(part for part in parts if part) or None
