"""`trio-gw explain`: why a running gateway would refuse a handshake, check by check."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from trio_gw.cli import admin_options, client
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse

VARIABLE = "TOKEN"
SWITCHING = 101  # the status when nothing refuses
_MARKS = {True: "ok", False: "FAILS", None: "-"}


class _Step(msgspec.Struct):
    step: str
    ok: bool | None
    what: str
    advice: str = ""


class _Found(msgspec.Struct):
    status: int
    steps: tuple[_Step, ...]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", help="the path of the handshake, such as /echo/1.0.0/plain")
    parser.add_argument("--host", default="localhost", help="the host (default: localhost)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"read the token from this file (default: ${VARIABLE}, else no token)",
    )
    parser.add_argument("--tls", action="store_true", help="as over wss://")
    admin_options.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def main(options: argparse.Namespace) -> int:
    """Explain; return 0 if the gateway would let the client in, 1 if not or without an answer."""
    try:
        token = os.environ.get(VARIABLE, "")
        if options.token_file is not None:
            with open(options.token_file, encoding="utf-8") as file:
                token = file.read(1 << 16)
        asked = {"path": options.path, "host": options.host, "token": token, "tls": options.tls}
        headers = {"Content-Type": "application/json"}
        with client.AdminClient(options) as gateway:
            body = gateway.ask(
                *("POST", "/admin/explain"),
                headers=headers,
                content=iter([msgspec.json.encode(asked)]),
            )
        found = msgspec.json.decode(body, type=_Found)
    except (client.RefusedError, OSError, UnicodeDecodeError) as error:
        print(f"trio-gw explain: {escape(str(error))}", file=sys.stderr)
        return 1
    except (msgspec.DecodeError, RecursionError) as error:
        print(f"trio-gw explain: {options.url}: no explanation: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        for one in found.steps:
            print(escape(f"{_MARKS[one.ok]:>5}  {one.step}: {one.what}"))
            if one.advice:
                print(escape(f"       {one.advice}"))
    return 0 if found.status == SWITCHING else 1
