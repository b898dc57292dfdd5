"""The commands: parse, call, exit code. Nothing heavy is imported before a command needs it."""

from psopt.cli import benching, looking, running, tables
from psopt.cli.group import cli

__all__ = ["benching", "cli", "looking", "running", "tables"]
