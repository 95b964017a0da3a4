"""Logs, metrics, traces and analytics. Callers never block, and no call raises."""
