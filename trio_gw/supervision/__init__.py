"""Supervision of processes and background tasks; independent of the rest of the gateway."""
