"""The text of a new API project: `api.yaml` and a definition, with comments for editors.

Called by the command `init`, which loads the result with `project.load` before it writes files.
"""

from __future__ import annotations

import json
import re

import msgspec

from trio_gw.config import channel_name, extensions, mapping
from trio_gw.config.faults import WrongError

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PLAIN = re.compile(r"/[A-Za-z0-9~/_.{}*$!@;()=+-]*|wss?://[A-Za-z0-9~/_.:-]*[A-Za-z0-9~/_.-]")
_NO_NAME = re.compile(r"v?[0-9.]*|wss?|websockets?|www|api|localhost", re.IGNORECASE)
_NO_TEXT = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])

_SECURITY = """\

components:
  securitySchemes:
    oauth2:                       # `x-scopes` needs a scheme of this type
      type: oauth2
      flows:
        clientCredentials:
          tokenUrl: https://localhost:9095/testkey
          scopes: {}
"""

KEYS = """\

# What this gateway reads of a topic, below its operation (AsyncAPI 2: `publish`, else `subscribe`;
# AsyncAPI 3: the operation with `action: receive`, else `send`):
#   x-uri-mapping: /path?name={uri.var.parameter}    the backend's own path (else: its URL as it is)
#   x-trio-gw-pass-path: true                        the backend's path is the one asked for
#   x-trio-gw-plain-http: true                       GET, HEAD and POST without an upgrade, too
#   x-scopes: [chat:write]                           a token needs one of these
#   x-auth-type: None                                no token at all; beside the operation, too
"""


class Plan(msgspec.Struct, frozen=True):
    """The values for a new project; an empty URL leaves that backend to the definition."""

    name: str
    version: str
    context: str
    production: str = ""
    sandbox: str = ""


def scalar(text: str) -> str:
    """Write a text as YAML, in quotes if it would be read as another type."""
    word = _WORD.fullmatch(text) and text.lower() not in _NO_TEXT
    return text if word or _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def name_from(title: str) -> str:
    """Make a project's name from a title: `My chat API` gives `MyChatAPI`."""
    words = re.findall(r"[A-Za-z0-9]+", title)
    return "".join(word[:1].upper() + word[1:] for word in words)


def name_from_backend(url: str) -> str:
    """Make a project's name from the URL of its backend: `wss://chat.test/v2/rooms` gives `Rooms`.

    The path says most, then the host; an address or `localhost` says nothing.
    """
    rest = url.partition("://")[2] or url
    authority, _, path = rest.partition("?")[0].partition("/")
    host = authority.rpartition("@")[2].partition(":")[0]
    labels = [] if re.search(r"[0-9\]]$", host) else host.split(".")[:-1] or [host]
    for part in (*reversed(path.split("/")), *labels):
        name = name_from(part)
        if name and not _NO_NAME.fullmatch(part) and not name[0].isdigit():
            return name[:50]
    return "MyApi"


def context_from(name: str) -> str:
    """Make a context from a name: `MyChatAPI` gives `/my-chat-api`."""
    parts = re.findall(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z]*[0-9]*", name)
    return "/" + "-".join(filter(None, parts)).lower()


def folder_from(plan: Plan) -> str:
    """Make a folder name that every file system accepts; never a hidden one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{plan.name}-{plan.version}").strip(".-") or "api"


def api_yaml(plan: Plan) -> str:
    """Write an `api.yaml`."""
    base = f"{plan.context}/{plan.version}"
    lines = [
        "# Who the API is, and where it goes to; its topics stand in Definitions/.",
        "type: api",
        "version: v4.1.0",
        "data:",
        f"  name: {scalar(plan.name)}",
        f"  version: {json.dumps(plan.version, ensure_ascii=False)}",
        f"  context: {scalar(plan.context)}",
        f"  # Clients connect to {base}/<topic>. With `true` they may leave the version out.",
        "  isDefaultVersion: false",
        "  type: WS",
        "  lifeCycleStatus: PUBLISHED    # PROTOTYPED switches the check of tokens off",
        "  apiThrottlingPolicy: Unlimited",
    ]
    if plan.production or plan.sandbox:
        lines += ["  endpointConfig:", "    endpoint_type: ws"]
        for kind, url in (("production", plan.production), ("sandbox", plan.sandbox)):
            if url:
                lines += [f"    {kind}_endpoints:", f"      url: {scalar(url)}"]
        lines += [
            "    # Several backends: a list of such `url:` entries takes turns, and",
            "    # `production_failovers` are called while the first is down. Tokens of the key",
            "    # type SANDBOX go to `sandbox_endpoints`.",
        ]
    else:
        lines += ["  # The backend is named by `servers` in the definition."]
    return "\n".join(lines) + "\n"


def asyncapi_yaml(plan: Plan, topics: list[str]) -> str:
    """Write an AsyncAPI definition with these topics, each with the same path at the backend.

    Uses a mapping if possible, since API Manager knows it; else a key of this gateway.
    """
    lines = [
        "# The topics of the API. Each is one path that clients connect to, in both directions.",
        "asyncapi: 2.6.0",
        "info:",
        f"  title: {scalar(plan.name)}",
        f"  version: {json.dumps(plan.version, ensure_ascii=False)}",
        "channels:",
    ]
    for topic in topics:
        lines.append(f"  {scalar(topic)}:")
        if names := sorted(channel_name.parameters(topic)):
            lines.append("    parameters:")
            for name in names:
                lines += [f"      {scalar(name)}:", "        schema:", "          type: string"]
        target = _mapping(topic)
        lines.append("    publish:")
        if target:
            lines.append(f"      x-uri-mapping: {json.dumps(target, ensure_ascii=False)}")
        else:
            lines.append(f"      {extensions.PASS_PATH}: true")
    return "\n".join(lines) + "\n" + _SECURITY + KEYS


def _mapping(topic: str) -> str:
    """Map a topic to the same path at the backend; empty if no mapping can do that."""
    names = channel_name.parameters(topic)
    text = topic
    for name in names:
        text = text.replace(f"{{{name}}}", f"{{uri.var.{name}}}")
    if text.endswith(("/", "/*")):
        return ""
    try:
        mapping.parse(text, names)
    except WrongError:
        return ""
    return text
