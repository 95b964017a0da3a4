"""AsyncAPI definitions read from a text, with what is said about them."""

from __future__ import annotations

from trio_gw.config import asyncapi, document
from trio_gw.config.findings import Findings

Problems = list[tuple[int, str, str]]


def read(text: str, *, lone: bool = False) -> tuple[asyncapi.Definition, Problems]:
    """Read a definition; give the line, severity and words of each problem too."""
    findings = Findings(document.read(text.encode(), "Definitions/asyncapi.yaml"))
    definition = asyncapi.read(findings, lone=lone)
    for problem in findings.problems:
        assert problem.file == "Definitions/asyncapi.yaml"
        assert problem.hint
    return definition, [(each.line, each.severity, each.what) for each in findings.problems]
