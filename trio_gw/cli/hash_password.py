"""`trio-gw hash-password`: hashes a password for the settings."""

from __future__ import annotations

import argparse
import getpass
import secrets
import sys

from trio_gw.config import passwords

MAX_LINE = 4096  # far above any password

_EPILOG = """\
The command asks for the password twice, without an echo, or reads it from the first line of
standard input:

  trio-gw hash-password < password.txt

The hash goes into gateway.toml, in quotes:

  [[testkey.users]]
  username = "admin"
  password = "$scrypt$ln=14,r=8,p=5$..."

In a shell or an environment file put it in single quotes, because of its dollar signs.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Extend the help. The password is never an argument, because `ps` would show it."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def main(options: argparse.Namespace) -> int:
    """Print the hash; return 1 if there is no password."""
    try:
        password = _ask() if sys.stdin.isatty() else _read()
    except ValueError as error:
        print(f"trio-gw hash-password: {error}", file=sys.stderr)
        return 1
    print(passwords.make(password.encode(), secrets.token_bytes(16)))
    return 0


def _ask() -> str:
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Once more: ")
    except EOFError:
        raise ValueError("no password was given") from None
    if not password:
        raise ValueError("the password is empty")
    if password != again:
        raise ValueError("the two passwords differ")
    return password


def _read() -> str:
    """Read the first line as bytes: `/testkey` compares UTF-8, in any locale."""
    line = sys.stdin.buffer.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise ValueError(f"the password is longer than {MAX_LINE} bytes")
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise ValueError("standard input has no password in its first line")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("the password is not UTF-8 text") from None
