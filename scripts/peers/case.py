"""What a case is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One gateway between a server and a client.

    `peers` are `registry:package`, for the versions; `server`, `client` and `front` are a file of
    `programs/` and the function to call. `backend` and `topics` go to `trio-gw init`; `key` is put
    below each operation that it writes, `setting` at the top of gateway.toml. Without `mapped` the
    keys for paths that it writes are taken out, as in projects that API Manager exports.
    """

    peers: tuple[str, ...]
    proves: str
    server: str
    client: str
    backend: str = "ws://127.0.0.1:{port}"
    topics: tuple[str, ...] = ("/*",)
    key: str = ""
    setting: str = ""
    front: str = ""
    mapped: bool = True

    @property
    def name(self) -> str:
        """Name the case by its client, and by what differs."""
        parts = (self.client, self.server, self.front, "" if self.mapped else "exported")
        return " ".join(part.replace(" ", ":") for part in parts if part)
