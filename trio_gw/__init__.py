"""A WebSocket API gateway: drop an exported API project into a folder, and it is served."""

__version__ = "0.1.0"
