"""Bytes from side to side: one lane per direction, driven by a pump."""
