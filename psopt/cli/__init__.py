"""The commands: parse, call, exit code. Nothing heavy is imported before a command needs it."""

from psopt.cli import looking, running, tables
from psopt.cli.group import cli

__all__ = ["cli", "looking", "running", "tables"]
