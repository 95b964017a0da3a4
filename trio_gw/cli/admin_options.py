"""The arguments of commands that send requests to a running gateway. Imports no HTTP client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

URL = "https://localhost:9843"
URL_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE = "GW_URL", "GW_USER", "GW_PASSWORD"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the URL of the admin API, the credentials and the trust."""
    parser.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE, URL),
        help=f"the admin API of the gateway (default: ${URL_VARIABLE}, else {URL})",
    )
    credentials(parser)


def credentials(parser: argparse.ArgumentParser) -> None:
    """Add the user, the password and the trusted certificates."""
    parser.add_argument(
        "--user",
        default=os.environ.get(USER_VARIABLE, "admin"),
        help=f"the user (default: ${USER_VARIABLE}, else admin)",
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help=f"read the password from standard input (default: ${PASSWORD_VARIABLE}, else ask)",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca", metavar="FILE", help="trust the certificates in this PEM file")
    trust.add_argument("--insecure", action="store_true", help="do not check the certificate")
