"""Times in the responses of the admin API."""

from __future__ import annotations

import datetime


def iso(epoch: float) -> str:
    """Write epoch seconds as RFC 3339 does, in UTC, with milliseconds."""
    moment = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
