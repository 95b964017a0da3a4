"""The names of the three origins of API projects."""

from __future__ import annotations

from typing import Final

APIS: Final = "apis"
DEPLOYED: Final = "deployed"
GIT: Final = "git"
