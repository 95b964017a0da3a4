"""The description of the admin API for people: one page without scripts or external resources.

It is generated from the OpenAPI document (`openapi`). Pure.
"""

from __future__ import annotations

from html import escape
from typing import Any

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLE = """\
body { font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 56em; padding: 0 1em; }
h2 { border-top: 1px solid #888; font-size: 1.1em; margin-top: 2em; padding-top: 1em; }
code, h2 { font-family: monospace; } h2 b { text-transform: uppercase; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .2em 1em .2em 0; }
td, th { text-align: left; vertical-align: top; } th { white-space: nowrap; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } }
"""


def page(document: dict[str, Any]) -> bytes:
    """Generate the page."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    parts = [
        f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        '<meta name=viewport content="width=device-width">',
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(info['description'])}",
        "The same for tools: <a href=/swagger.json>swagger.json</a>.</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(document["basePath"] + path, method, operation)
    return "\n".join(parts).encode()


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    parts = [f"<h2><b>{escape(method)}</b> {escape(path)}</h2>"]
    secured = "" if operation.get("security") == [] else " Basic or Bearer credentials."
    parts.append(f"<p>{escape(operation['summary'])}.{secured}</p>")
    rows = [
        (one["name"], f"in {_PLACES[one['in']]}", _describe_parameter(one))
        for one in operation.get("parameters", ())
    ]
    answers = [(code, "", one["description"]) for code, one in operation["responses"].items()]
    for rest in (rows, answers):
        if rest:
            cells = ("<tr><th>" + "<td>".join(map(escape, row)) for row in rest)
            parts.append(f"<table>{''.join(cells)}</table>")
    return parts


_PLACES = {"query": "the query", "formData": "the form", "body": "the body"}
_RULES = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "pattern": "like {}",
}


def _describe_parameter(parameter: dict[str, Any]) -> str:
    """Describe a parameter and its rules."""
    parts = [parameter.get("description", ""), parameter.get("type", "")]
    parts.append("required" if parameter.get("required") else "")
    parts += [
        rule_text.format(parameter[rule]) for rule, rule_text in _RULES.items() if rule in parameter
    ]
    return ", ".join(filter(None, parts))
