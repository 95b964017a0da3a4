"""Protocols without I/O: HTTP heads, the WebSocket handshake, frame headers."""
