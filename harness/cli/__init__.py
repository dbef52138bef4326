"""Command line: one file per command, each thin."""
