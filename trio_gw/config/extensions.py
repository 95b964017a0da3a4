"""The `x-trio-gw-` keys at the root of a definition that say how all of it is meant.

Called by `asyncapi`, written by `init`. None of them stands in projects that API Manager
exported, so those keep the meaning that the reference gives them.
"""

from __future__ import annotations

import msgspec

PASS_PATH = "x-trio-gw-pass-path"  # noqa: S105 - no password
SERVER = "x-trio-gw-server"
CHANNEL_NAMES = "x-trio-gw-channel-names"
FILES = "x-trio-gw-files"
PRESERVE_HOST = "x-trio-gw-preserve-host"
PLAIN_HTTP = "x-trio-gw-plain-http"

# What channel names (in AsyncAPI 3: addresses) without a leading slash are: relative paths, or
# subjects of messages that all go over one connection to the server's own URL.
PATHS, SUBJECTS = "paths", "subjects"

_KEYS = {
    "pass_path": PASS_PATH,
    "server": SERVER,
    "channel_names": CHANNEL_NAMES,
    "preserve_host": PRESERVE_HOST,
    "plain_http": PLAIN_HTTP,
}


class RootExtensions(msgspec.Struct, frozen=True, rename=_KEYS):
    """What the root of a definition says.

    `pass_path` tells that topics without `x-uri-mapping` hand their path on to the backend;
    `server` names the one server that counts; `channel_names` is empty, `paths` or `subjects`.
    `preserve_host` tells whether backends get the client's Host; None leaves it to the settings.
    `plain_http` tells that topics take plain HTTP requests beside WebSockets.
    """

    pass_path: bool | None = None
    server: str = ""
    channel_names: str = ""
    preserve_host: bool | None = None
    plain_http: bool | None = None
