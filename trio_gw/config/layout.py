"""The kind of each file of a project, by its path.

Called by `project`. The reference system searches for parts of the path; here whole names count, so
that a backup copy or a hidden file is not mistaken for the file itself. spec: project-format §2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal[
    "api",
    "asyncapi",
    "openapi",
    "deployments",
    "endpoint map",
    "endpoint certificate",
    "client map",
    "client certificate",
]
Purpose = Literal["endpoint", "client"]

_API = re.compile(r"api\.(?:yaml|yml|json)", re.IGNORECASE)
_ASYNCAPI = re.compile(r"asyncapi\.(?:yaml|yml|json)", re.IGNORECASE)
_OPENAPI = re.compile(r"swagger\.[^.]+", re.IGNORECASE)
_DEPLOYMENTS = re.compile(r"deployment_environments\.(?:yaml|yml|json)", re.IGNORECASE)
_CERTIFICATE = re.compile(r".+\.(?:crt|pem)", re.IGNORECASE)
_MAPS: dict[Purpose, re.Pattern[str]] = {
    "endpoint": re.compile(r"endpoint_certificates\.(?:yaml|yml|json)", re.IGNORECASE),
    "client": re.compile(r"client_certificates\.(?:yaml|yml|json)", re.IGNORECASE),
}
CERTIFICATES: dict[Purpose, tuple[Kind, Kind]] = {
    "endpoint": ("endpoint certificate", "endpoint map"),
    "client": ("client certificate", "client map"),
}
_FOLDERS: dict[str, Purpose] = {
    "endpoint-certificates": "endpoint",
    "client-certificates": "client",
}


def kind(path: str) -> Kind | None:
    """Return the kind of the file at this relative POSIX path; None if it is not read."""
    *folders, name = path.split("/")
    if any(part.startswith(".") or not part for part in (*folders, name)):
        return None
    if _DEPLOYMENTS.fullmatch(name):
        return "deployments"
    below = [part.casefold() for part in folders]
    if below[-1:] == ["definitions"]:
        if _ASYNCAPI.fullmatch(name):
            return "asyncapi"
        return "openapi" if _OPENAPI.fullmatch(name) else None
    certificate = _certificate(below, name)
    if certificate is not None:
        return certificate
    return "api" if _API.fullmatch(name) and "definitions" not in below else None


def _certificate(below: list[str], name: str) -> Kind | None:
    at = next((index for index, part in enumerate(below) if part in _FOLDERS), None)
    if at is None or below[at + 1 : at + 2] == ["interceptors"]:
        return None
    purpose = _FOLDERS[below[at]]
    certificate, certificate_map = CERTIFICATES[purpose]
    if _MAPS[purpose].fullmatch(name):
        return certificate_map
    return certificate if _CERTIFICATE.fullmatch(name) else None


def certificate_folders(paths: Iterable[str]) -> list[str]:
    """Return the folders of these certificate files, only those with the shortest paths.

    More than one is ambiguous, like two `api.yaml`; deeper ones belong to other projects.
    """
    found: dict[str, int] = {}
    for path in paths:
        parts = path.split("/")
        at = next(index for index, part in enumerate(parts) if part.casefold() in _FOLDERS)
        found["/".join(parts[: at + 1])] = at
    least = min(found.values(), default=0)
    return sorted(folder for folder, depth in found.items() if depth == least)
