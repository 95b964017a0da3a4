"""Projects in other known formats, with an error that names the format.

Called by `project` before an api.yaml is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.nodes import Mapping, Scalar

if TYPE_CHECKING:
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Node


def recognised(findings: Findings) -> bool:
    """Return whether an api.yaml has another known format; an error names it."""
    root = findings.document.root
    if root.find("data") is not None:
        return False
    if _below(_below(root, "id"), "apiName") is not None:
        findings.error(
            ("id",),
            "this project was exported by API Manager 3.x, whose format is not supported",
            "import it into API Manager 4.x, and export it again from there",
        )
        return True
    version, kind = (_below(root, key) for key in ("apiVersion", "kind"))
    if isinstance(version, Scalar) and "wso2.com/" in version.text:
        name = kind.text[:40] if isinstance(kind, Scalar) else "resource"
        findings.error(
            ("apiVersion",),
            f"this is a `{name}` of WSO2 API Platform (`{version.text[:80]}`), not an API project",
            "make a project with `trio-gw init`, or export the API from API Manager 4.x",
        )
        return True
    return False


def _below(node: Node | None, key: str) -> Node | None:
    entry = node.find(key) if isinstance(node, Mapping) else None
    return None if entry is None else entry.node
