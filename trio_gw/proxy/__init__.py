"""The data plane: accept, decide, connect, relay."""
