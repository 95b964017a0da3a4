"""Adapts a document that was not written for a gateway. Pure; called by `init`.

`choose` selects the server that is the backend, `names` decides what its channels are. `marked`
writes both into the definition as root keys (`extensions`) and keeps the rest unchanged.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config import (
    asyncapi,
    channel_name,
    channels,
    document,
    extensions,
    references,
    servers,
)
from trio_gw.config.faults import printable
from trio_gw.config.findings import Findings
from trio_gw.config.nodes import Mapping, MappingEntry, Scalar
from trio_gw.config.yamltext import dump
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from trio_gw.config.document import Document
    from trio_gw.config.nodes import Node, Path

_BAD_PATH = re.compile(r"[\s\x00-\x1f\x7f]")
_ORIGIN = re.compile(r"(wss?://[^/]+)", re.IGNORECASE)
MAX_NAMES = 5  # in one line of output


class AmbiguousError(Exception):
    """More than one server could be the backend; the text lists them, with a hint."""


class DocumentServer(NamedTuple):
    """A server of the document; `speech` as `servers.speech` has it."""

    name: str
    protocol: str
    speech: str
    secured: str  # its `security` as text for comparison


class BackendChoice(NamedTuple):
    """The backends as URLs; empty ones are left to the definition.

    `server` is the one that the definition should name, empty for none.
    """

    production: str = ""
    sandbox: str = ""
    server: str = ""
    problems: tuple[Problem, ...] = ()


class ChannelNames(NamedTuple):
    """The meaning of channel names without a leading slash (`extensions`), and problems."""

    kind: str = ""
    left_out: tuple[str, ...] = ()
    relative: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Reader:
    """The document with references to servers and channels resolved."""

    def __init__(self, found: Document, major: int) -> None:
        self.findings = Findings(found)
        self.major = major
        node = found.node(("servers",))
        names = node.entries if isinstance(node, Mapping) else ()
        paths: list[Path] = [("servers", name) for name in names]
        references.follow(self.findings, asyncapi.places(major, paths), strict=False)

    def servers(self) -> list[DocumentServer]:
        node = self.findings.document.node(("servers",))
        entries = node.entries if isinstance(node, Mapping) else {}
        return [_server(name, entry.node) for name, entry in entries.items()]

    def channels(self) -> list[tuple[str | None, Path]]:
        """Return the name of each channel as written, or its address; None where it has none."""
        node = self.findings.document.node(("channels",))
        entries = node.entries if isinstance(node, Mapping) else {}
        if self.major == 2:
            return [(key, ("channels", key)) for key in entries]
        found: list[tuple[str | None, Path]] = []
        for key, entry in entries.items():
            value = _below(entry.node, "address")
            text = value.text if isinstance(value, Scalar) and value.value is not None else None
            found.append((text, ("channels", key)))
        return found

    def problem(self, path: Path, what: str, hint: str, *, error: bool = False) -> Problem:
        line, column = self.findings.document.place(path)
        severity = "error" if error else "warning"
        file = self.findings.document.file
        return Problem(file, line, column, printable(what), printable(hint), severity)  # type: ignore[arg-type]


def choose(found: Document, major: int, *, named: str = "", backend: str = "") -> BackendChoice:
    """Choose the backend: `backend` itself, else the server `named`, else the only possible one.

    Raises `UnusableError` if no server speaks WebSocket, or the chosen one is faulty, and
    `AmbiguousError` if several are possible.
    """
    reader = _Reader(found, major)
    every = reader.servers()
    chosen, problems = _chosen(reader, every, named, backend)
    if backend:
        server = chosen or _asking(every)
        return BackendChoice(backend, server=server.name if server else "")
    if origin := _origin(reader):
        return BackendChoice(origin, server=every[0].name if every else "")
    if chosen is None:
        return BackendChoice()
    others = {one.name.casefold(): one for one in every if one.speech and not named}
    side = chosen.name.casefold() if len(every) == 1 else "production"
    used = {side if side in servers.SIDES else "production": chosen}
    if chosen.name.casefold() == "production" and "sandbox" in others:
        used["sandbox"] = others["sandbox"]
    if _is_plain(reader, every, used, major):
        return BackendChoice(problems=problems)
    findings = Findings(reader.findings.document)
    urls = {
        "production" if len(used) == 1 else side: servers.read(
            ("servers", one.name), findings, major=major, whole=True
        )
        for side, one in used.items()
    }
    if faults := [each for each in findings.problems if each.severity == "error"]:
        hint = "; or add --backend wss://…"
        raise UnusableError([msgspec.structs.replace(e, hint=e.hint + hint) for e in faults])
    production, sandbox = (str(urls.get(side) or "") for side in servers.SIDES)
    return BackendChoice(production, sandbox, chosen.name, problems)


def _chosen(
    reader: _Reader, every: list[DocumentServer], named: str, backend: str
) -> tuple[DocumentServer | None, tuple[Problem, ...]]:
    """Find the only possible server; None if there is none and none is needed."""
    if named:
        for one in every:
            if one.name.casefold() == named.casefold():
                if not (one.speech or backend):
                    raise UnusableError([_no_websocket(reader, [one])])
                return one, _remarks(reader, one)
        shown = ", ".join(one.name for one in every) or "none"
        raise AmbiguousError(f"--server: there is no server `{named}`; the document has {shown}")
    for speech in ("ws", "web"):
        fit = [one for one in every if one.speech == speech]
        by_name = {one.name.casefold(): one for one in fit}
        if production := by_name.get("production") or (fit[0] if len(fit) == 1 else None):
            return production, () if backend else _remarks(reader, production)
        if fit and not backend:
            shown = ", ".join(each.name for each in fit[:10])
            raise AmbiguousError(
                f"several servers could be the backend: {shown}; name one with --server, such as"
                f" --server {fit[0].name}, or give a URL with --backend"
            )
        if fit:
            return None, ()
    if every and not backend and not _origin(reader):
        raise UnusableError([_no_websocket(reader, every)])
    return None, ()


def _no_websocket(reader: _Reader, every: list[DocumentServer]) -> Problem:
    shown = ", ".join(
        f"`{one.name[:40]}` speaks {one.protocol[:40] or 'an unknown protocol'}"
        for one in every[:MAX_NAMES]
    )
    what = f"no WebSocket server: {shown}; this gateway serves WebSocket APIs"
    hint = "if there is a WebSocket endpoint, add --backend wss://…"
    if any(one.protocol.casefold().startswith("websocket") for one in every):
        hint = f"write `ws` or `wss` as the `protocol`; or {hint}"
    return reader.problem(("servers", every[0].name), what, hint, error=True)


def _remarks(reader: _Reader, one: DocumentServer) -> tuple[Problem, ...]:
    """Report properties of the server."""
    path: Path = ("servers", one.name)
    said = one.protocol.casefold()
    if one.speech == "web":
        what = f"server `{one.name[:40]}` speaks {one.protocol[:40] or 'http'}, not WebSocket: it"
        what += " is asked to switch to WebSocket"
        return (reader.problem(path, what, "write `ws` or `wss`, or add --backend wss://…"),)
    if said not in ("", "ws", "wss", "http", "https", "websocket", "websockets"):
        what = f"server `{one.name[:40]}` speaks {one.protocol[:40]}: its frames are relayed,"
        what += " whatever is spoken in them"
        return (reader.problem(path, what, "clients and backend have to speak it themselves"),)
    return ()


def _asking(every: list[DocumentServer]) -> DocumentServer | None:
    """Find the server with the `security` for a backend that is not in the document."""
    asking = [one for one in every if one.secured]
    if len({one.secured for one in asking}) > 1:
        shown = ", ".join(one.name for one in asking[:10])
        raise AmbiguousError(
            f"the `security` of the servers differs ({shown}); name with --server whose holds,"
            f" such as --server {asking[0].name}"
        )
    return asking[0] if asking else (every[0] if every else None)


def _is_plain(
    reader: _Reader, every: list[DocumentServer], used: dict[str, DocumentServer], major: int
) -> bool:
    """Return whether the definition needs no changes: every gateway reads it in this way."""
    if len(every) > len(used):
        return False
    plain = Findings(reader.findings.document)
    for one in used.values():
        path: Path = ("servers", one.name)
        read = servers.read(path, plain, major=major)
        if read is None or read != servers.read(path, plain, major=major, whole=True):
            return False
    return not plain.problems


def _origin(reader: _Reader) -> str:
    """Return the origin of the channels, if all of them are whole URLs."""
    names = [name for name, _ in reader.channels()]
    found = {match[1] for name in names if name and (match := _ORIGIN.match(name))}
    urls = [name for name in names if name and channel_name.is_url(name)]
    return found.pop() if len(found) == 1 and len(urls) == len(names) else ""


def has_servers(found: Document) -> bool:
    """Return whether a document has any server."""
    node = found.node(("servers",))
    return isinstance(node, Mapping) and bool(node.entries)


def names(found: Document, major: int, choice: BackendChoice) -> ChannelNames:
    """Determine the meaning of the channels of the chosen server."""
    reader = _Reader(found, major)
    mine: list[tuple[str | None, Path]] = []
    others: list[tuple[str | None, Path]] = []
    server = choice.server if _is_told_apart(reader, choice) else ""
    for name, path in reader.channels():
        belongs = not server or channels.belongs(reader.findings.document, path, server)
        (mine if belongs else others).append((name, path))
    odd = [(name, path) for name, path in mine if name is not None and not name.startswith("/")]
    left_out = tuple(str(path[-1]) for _, path in others)
    if not odd:
        unknown = [path for name, path in mine if name is None]
        if not unknown or len(unknown) < len(mine):
            return ChannelNames(left_out=left_out)
        what = "no channel has an address, so all are one connection to the server's own URL"
        hint = "write `address: /…` if clients request a path"
        problem = reader.problem(("channels",), what, hint)
        return ChannelNames(extensions.SUBJECTS, left_out, problems=(problem,))
    texts = [name for name, _ in odd if not channel_name.is_url(name)]
    hint = "write its path alone; name its host in `servers`, or with --backend"
    problems = tuple(
        reader.problem(
            path, f"the channel `{name[:80]}` is a whole URL: only its path counts", hint
        )
        for name, path in odd
        if channel_name.is_url(name) and texts
    )
    if not texts or any("/" in name and not _BAD_PATH.search(name) for name in texts):
        relative = tuple(name for name, _ in odd)
        return ChannelNames(extensions.PATHS, left_out, relative, problems)
    shown = ", ".join(f"`{name[:40]}`" for name in texts[:MAX_NAMES])
    more = f" and {len(texts) - MAX_NAMES} more" if len(texts) > MAX_NAMES else ""
    what = f"{shown}{more} {'is no path' if len(texts) == 1 else 'are no paths'}: subjects of one"
    what += " connection, served as the topic `/` at the server's own URL"
    hint = "write `/` in front of a name that is a path"
    problem = reader.problem(odd[0][1], what, hint)
    return ChannelNames(extensions.SUBJECTS, left_out, (), (problem, *problems))


def _is_told_apart(reader: _Reader, choice: BackendChoice) -> bool:
    return bool(choice.server) and servers.speaks(("servers", choice.server), reader.findings)


def marked(text: str, keys: dict[str, str | bool], comment: str = "") -> str:
    """Write keys into the root of a definition, and a comment if it is YAML.

    The text is kept, except for documents without a suitable place.
    """
    found = document.read(text.encode(), "")
    keys = {key: value for key, value in keys.items() if found.root.find(key) is None}
    expected = list(found.root.entries) + list(keys)
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        at = text.index("{") + 1
        comma = ", " if found.root.entries else ""
        added = ", ".join(f"{json.dumps(key)}: {json.dumps(keys[key])}" for key in keys)
        return text[:at] + added + (comma if added else "") + text[at:].lstrip(" ")
    lines = [f"{key}: {json.dumps(value)}" for key, value in keys.items()]
    first = min((each.line, each.column) for each in found.root.entries.values())
    indent = " " * (first[1] - 1)
    added = "".join(f"{indent}{line}\n" for line in lines)
    whole = text.rstrip("\n") + "\n"
    rows = whole.split("\n")
    above = "\n".join(rows[: first[0] - 1])
    for attempt in (
        f"{whole}\n{added}{comment}" if added else whole + comment,
        f"{above}{chr(10) if above else ''}{added}" + "\n".join(rows[first[0] - 1 :]),
    ):
        if _has(attempt, expected):
            return attempt
    entries = {
        key: MappingEntry(
            0, 0, Scalar(0, 0, json.dumps(value), value, plain=isinstance(value, bool))
        )
        if isinstance(value, bool)
        else MappingEntry(0, 0, Scalar(0, 0, value, value))
        for key, value in keys.items()
    }
    root = document.read(text.encode(), "", whole=True).root
    return dump(msgspec.structs.replace(root, entries={**root.entries, **entries})) + comment


def _has(text: str, keys: list[str]) -> bool:
    try:
        return sorted(document.read(text.encode(), "").root.entries) == sorted(keys)
    except UnusableError:
        return False


def _server(name: str, node: Node) -> DocumentServer:
    def said(key: str) -> str:
        value = _below(node, key)
        return value.text.strip() if isinstance(value, Scalar) and value.value is not None else ""

    protocol = said("protocol")
    url = said("url") or said("host")
    security = _below(node, "security")
    secured = "" if security is None else dump(_alone(security))
    scheme = url.partition("://")[0] if "://" in url else ""
    return DocumentServer(name, protocol or scheme, servers.speech(protocol, url), secured)


def _alone(node: Node) -> Mapping:
    return Mapping(0, 0, {"security": MappingEntry(0, 0, node)}, {})


def _below(node: Node, key: str) -> Node | None:
    entry = node.find(key) if isinstance(node, Mapping) else None
    return None if entry is None else entry.node
