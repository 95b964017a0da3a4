"""A WebSocket API gateway: drop an exported API project into a folder, and it is served."""

from trio_gw import compiled

__version__ = "0.2.0"

compiled.install()
