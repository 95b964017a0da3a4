"""The settings of what a gateway tells about itself: `[log]`, `[metrics]`."""

from __future__ import annotations

import msgspec


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How log lines look, from which level on, and in which shape connections are listed.

    `format` is `auto` (text on a terminal, JSON otherwise), `text` or `json`. `access` is `own`,
    `reference` (bare lines on standard output, spec: frames §8) or `off`.
    """

    format: str = "auto"
    level: str = "info"
    access: str = "own"


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether things are counted, where they are shown, and how many series a metric may have.

    `listen` is `host:port` of a plain listener for `/metrics` alone; empty turns it off.
    """

    enabled: bool = True
    listen: str = ""
    series: int = 1000
