"""The rules for settings in addition to their types, a module per group of tables."""
