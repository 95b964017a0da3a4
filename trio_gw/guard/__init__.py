"""May this go on? Signing keys and tokens."""
