"""The `x-trio-gw-` keys at the root of a definition, which apply to all of it.

Read by `asyncapi`, written by `init`. Projects exported from API Manager do not have them, so
they keep the meaning that they have in the reference.
"""

from __future__ import annotations

import msgspec

PASS_PATH = "x-trio-gw-pass-path"  # noqa: S105 - no password
SERVER = "x-trio-gw-server"
CHANNEL_NAMES = "x-trio-gw-channel-names"
FILES = "x-trio-gw-files"
PRESERVE_HOST = "x-trio-gw-preserve-host"
PLAIN_HTTP = "x-trio-gw-plain-http"

# The meaning of channel names (AsyncAPI 3: addresses) without a leading slash: relative paths, or
# subjects of messages that all use one connection to the URL of the server.
PATHS, SUBJECTS = "paths", "subjects"

_KEYS = {
    "pass_path": PASS_PATH,
    "server": SERVER,
    "channel_names": CHANNEL_NAMES,
    "preserve_host": PRESERVE_HOST,
    "plain_http": PLAIN_HTTP,
}


class RootExtensions(msgspec.Struct, frozen=True, rename=_KEYS):
    """The keys at the root of a definition.

    With `pass_path` topics without `x-uri-mapping` pass their path to the backend; `server` names
    the only server that is used; `channel_names` is empty, `paths` or `subjects`.
    `preserve_host`: backends get the Host of the client; None leaves it to the settings.
    With `plain_http` topics accept plain HTTP requests in addition to WebSockets.
    """

    pass_path: bool | None = None
    server: str = ""
    channel_names: str = ""
    preserve_host: bool | None = None
    plain_http: bool | None = None
