"""Supervision of processes and background tasks. Independent of the rest of the gateway."""
