"""The entry point of the command line: `trio-gw`, also `python -m trio_gw`."""

from __future__ import annotations

import argparse
import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import trio_gw

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import ModuleType

COMMANDS = {
    "run": "serve the API projects of a folder",
    "check": "find every fault in the settings and API projects, without serving",
    "pull": "read API Manager once, and list what a gateway would serve",
    "init": "make an API project from an AsyncAPI document, or from nothing",
    "convert": "turn a Choreo Connect config.toml into gateway.toml",
    "routes": "list the routes in matching order",
    "tiers": "list the limits that projects and tokens may name",
    "token": "print a test token signed with the gateway's own key",
    "connect": "open a WebSocket, show every frame, and explain how it ended",
    "deploy": "send an API project to a running gateway",
    "undeploy": "take an API off a running gateway",
    "lifecycle": "show or set the state of an API of a running gateway",
    "revisions": "list what was deployed of an API, and by whom",
    "rollback": "deploy an old revision of an API anew",
    "applications": "register applications at a running gateway: keys, subscriptions, tokens",
    "apis": "list what a running gateway serves",
    "connections": "list the open connections of a running gateway, or close some",
    "deny": "refuse a caller from now on, or list who is refused",
    "explain": "say why a running gateway would refuse a handshake",
    "top": "watch what a running gateway does, live in the terminal",
    "hash-password": "hash a password for the settings",
    "version": "say which version this is, and whether its relay is compiled",
    "echo": "run a backend that sends every message back",
}
EPILOG = """\
First steps:
  trio-gw run                         serve ./apis on ws://localhost:9090
  trio-gw run --to ws://localhost:80  no project needed: relay to one backend
  trio-gw init --name Chat --backend wss://chat.example --topic /rooms/{id}
                                      make an API project in ./apis
  trio-gw check                       what is wrong, where, and how to fix it

Settings are read from --config FILE, else $TRIO_GW_CONFIG, else ./gateway.toml if it exists.
"""


def parser(wanted: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Build the argument parser. Only the modules of the `wanted` commands are imported.

    So a command does not import what only others need: `trio-gw version` imports no event loop.
    """
    top = argparse.ArgumentParser(
        prog="trio-gw",
        description="A WebSocket API gateway: drop an API project into a folder, it is served.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"trio-gw {trio_gw.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        if name in wanted:
            _module(name).arguments(sub)
    return top


def _named(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the requested command: the first word that is not an option."""
    words = (word for word in arguments if not word.startswith("-"))
    return tuple(word for word in (next(words, ""),) if word in COMMANDS)


def _module(command: str) -> ModuleType:
    return import_module(f"trio_gw.cli.{command.replace('-', '_')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 fine, 1 problems found, 2 usage)."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names can have characters that the terminal cannot show: escape them, as stderr does.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser(_named(arguments)).parse_args(arguments)
    command = _module(options.command)
    try:
        code: int = command.main(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `trio-gw routes | head`
        sys.stderr.close()
        return 0
    return code


def _open_standard_streams() -> None:
    """Open /dev/null for closed standard streams, so that no socket gets their descriptors."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 - for good


if __name__ == "__main__":
    sys.exit(main())
