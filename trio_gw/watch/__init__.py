"""Watching files and directories: hints that something changed, and files loaded again."""
