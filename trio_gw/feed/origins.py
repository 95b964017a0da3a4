"""The names of the four origins of API projects."""

from __future__ import annotations

from typing import Final

APIS: Final = "apis"
CONTROL_PLANE: Final = "control_plane"
DEPLOYED: Final = "deployed"
GIT: Final = "git"
