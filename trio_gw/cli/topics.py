"""`trio-gw apis --topics`: the topics of an API that a gateway serves, or one of them in detail."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from trio_gw.cli import client
from trio_gw.cli.common import aligned
from trio_gw.documents.topic_view import TopicRow, TopicView  # noqa: TC001 - to decode them
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from trio_gw.documents.messages import MessageView

COLUMNS = ("TOPIC", "YOU", "ACCESS", "TIER", "SUMMARY")
EXAMPLE_LINES = 20


class _Answer(msgspec.Struct):
    path: str = ""
    differs: bool = False


class _Rows(_Answer):
    topics: tuple[TopicRow, ...] = ()


class _Views(_Answer):
    topics: tuple[TopicView, ...] = ()


def show_topics(options: argparse.Namespace) -> int:
    """Print what the gateway says; return 0, or 1 if it does not answer or has no such API."""
    given = {"api": options.topics, "host": options.host or "", "topic": options.topic or ""}
    query = {name: value for name, value in given.items() if value}
    try:
        with client.AdminClient(options) as gateway:
            body = gateway.ask("GET", "/admin/topics", query=query)
        if options.json:
            print(msgspec.json.format(body.strip(), indent=2).decode())
            return 0
        found = msgspec.json.decode(body, type=_Views if options.topic else _Rows)
    except client.RefusedError as error:
        print(f"trio-gw apis: {escape(str(error))}", file=sys.stderr)
        return 1
    except (msgspec.DecodeError, RecursionError) as error:
        print(f"trio-gw apis: {options.url}: no list of topics: {error}", file=sys.stderr)
        return 1
    if isinstance(found, _Rows):
        print(aligned([COLUMNS, *map(_line, found.topics)]))
    else:
        for view in found.topics:
            print("\n".join(map(escape, _described(view))))
    if found.differs:
        what = "the files differ from what is served: they are broken, or not loaded yet"
        print(f"trio-gw apis: {what}", file=sys.stderr)
    return 0


def _line(row: TopicRow) -> tuple[str, ...]:
    access = "open"
    if row.secured:
        access = " or ".join(row.scopes) or "token"
    return (row.name, " and ".join(row.ways) or "-", access, row.tier or "-", row.summary)


def _described(view: TopicView) -> Iterator[str]:
    yield view.row.name
    yield f"  access: {_access(view)}"
    yield f"  tier: {view.tier or view.api_tier}"
    for one in view.parameters:
        known = f" one of {', '.join(one.enum)}" if one.enum else ""
        yield f"  {{{one.name}}}: {one.type}{known}{_tail(one.description)}"
    yield f"  request: {view.mapping.client}"
    yield f"  backend: {view.mapping.backend_url or view.mapping.backend}"
    for operation in view.operations:
        ignored = f" (not read: {', '.join(operation.ignored)})" if operation.ignored else ""
        yield f"  you {operation.way}{_tail(operation.summary)}{ignored}"
        for message in (*operation.messages, *operation.replies):
            yield from _message(message)
    for note in view.notes:
        yield f"  note: {note}"


def _access(view: TopicView) -> str:
    access = view.access
    line = access.line or access.scopes_line
    place = f" (line {line})" if line else ""
    if not access.secured:
        return f"open, {access.why}{place}"
    names = " or ".join(one.name for one in access.scopes)
    return f"a token with {names}{place}" if names else "a token"


def _message(message: MessageView) -> Iterator[str]:
    kind = f", {message.content_type}" if message.content_type else ""
    yield f"    {message.name}{kind}{_tail(message.summary or message.title)}"
    for example in message.examples[:1]:
        lines = example.payload.split("\n")
        if example.made_up:
            yield "      made up:"
        yield from (f"      {line}" for line in lines[:EXAMPLE_LINES])
        if len(lines) > EXAMPLE_LINES:
            yield "      …"


def _tail(text: str) -> str:
    first = text.strip().partition("\n")[0]
    return f": {first}" if first else ""
