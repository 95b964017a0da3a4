"""`deployment_environments.yaml`: the environments of a project (spec: project-format §7.1).

`placement` determines the hosts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import endpoint
from trio_gw.config.api import Deployment
from trio_gw.config.convert import convert

if TYPE_CHECKING:
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_VHOST = re.compile(r"[A-Za-z0-9_.*-]{0,253}")


class _DeploymentEntry(msgspec.Struct, frozen=True, rename="camel"):
    deployment_environment: str = ""
    deployment_vhost: str = ""


class _Deployments(msgspec.Struct, frozen=True):
    data: tuple[_DeploymentEntry, ...] | None = None


def read(findings: Findings) -> tuple[Deployment, ...]:
    """Read the file; faults are added to its findings.

    A broken file is an error; the reference treats it as absent, and the API then answers on an
    unexpected host.
    """
    entries = convert(_Deployments, findings).data or ()
    if not entries and not findings.spoilt(()):
        findings.warn(
            ("data",),
            "no deployment environment is listed: deployed to `Default`",
            "list `deploymentEnvironment: …` below `data:`, or remove the file",
        )
    if not findings.spoilt(
        ("data",)
    ):  # otherwise items were left out, so that indexes have changed
        for index, entry in enumerate(entries):
            _check_entry(entry, ("data", index), findings)
    return tuple(
        Deployment(entry.deployment_environment, entry.deployment_vhost) for entry in entries
    )


def _check_entry(entry: _DeploymentEntry, path: Path, findings: Findings) -> None:
    if not entry.deployment_environment.strip():
        findings.error(
            path,
            "`deploymentEnvironment` is missing",
            "name an environment, for example `deploymentEnvironment: Default`",
        )
    vhost = entry.deployment_vhost
    if not _VHOST.fullmatch(vhost) and not endpoint.is_address(vhost, 6):
        findings.error(
            (*path, "deploymentVhost"),
            f"{vhost[:80]!r} is not a host name",
            "write only the host, without scheme, port and path",
        )
