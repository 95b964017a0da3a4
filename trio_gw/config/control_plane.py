"""The table `[control_plane]`: WSO2 API Manager, and its Traffic Manager. Pure.

spec: control-plane §1.
"""

from __future__ import annotations

import msgspec


class ThrottlingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events for the Traffic Manager, and its decisions. Its repr hides the password.

    `publish` and `login` are the event receivers (`tcp://host:port`) and their login addresses
    (`ssl://host:port`), in the same order. An entry may be a list of addresses: the entries of
    the outer list share the events, those of an inner list stand in for each other.
    """

    enabled: bool = False
    publish: tuple[str | tuple[str, ...], ...] = ("tcp://localhost:9611",)
    login: tuple[str | tuple[str, ...], ...] = ("ssl://localhost:9711",)
    username: str = "admin"
    password: str = "admin"  # noqa: S105 - the default of API Manager
    header_conditions: bool = False
    query_conditions: bool = False
    claim_conditions: bool = False

    def __repr__(self) -> str:
        return f"ThrottlingSettings(enabled={self.enabled!r}, publish={self.publish!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("enabled", self.enabled), ("publish", self.publish)]


class ControlPlaneSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """API Manager as the source of APIs and subscriptions; off without `url`.

    Its repr hides the passwords. `retry_interval` and `request_timeout` in seconds. `ca` is a PEM
    file or a folder of them, for all connections to API Manager. `cache` is the folder of the last
    good state; an empty one keeps none.
    """

    url: str = ""
    username: str = "admin"
    password: str = "admin"  # noqa: S105 - the default of API Manager
    ca: str = ""
    insecure_skip_verify: bool = False
    environments: tuple[str, ...] = ("Default",)
    retry_interval: float = 5.0
    request_timeout: float = 30.0
    events: tuple[str, ...] = ("amqp://admin:admin@localhost:5672/?retries='10'&connectdelay='30'",)
    revision_updates: bool = False
    cache: str = "controlplane"
    throttling: ThrottlingSettings = ThrottlingSettings()

    @property
    def tenant(self) -> str:
        """The tenant of the user: the text after the last `@`."""
        return self.username.rpartition("@")[2] if "@" in self.username else "carbon.super"

    def __repr__(self) -> str:
        return f"ControlPlaneSettings(url={self.url!r}, environments={self.environments!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("url", self.url), ("environments", self.environments)]
