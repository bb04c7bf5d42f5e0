"""Command groups that import a command only when it is called, and the options that every command takes.

Rule: listing, completing and explaining the commands of a table imports none of them.

The shared options (`-C`, `--project`, `-o`) may stand before or after the subcommand, at any depth: they are added to
each command as it is looked up, and the rightmost one wins. A command that declares one of these words itself keeps
its own meaning. A command that passes words on to somebody else (`oj run CMD ARGS...`) turns off
`allow_interspersed_args`, so shared options are taken from before CMD and never out of ARGS.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

import click

Row = tuple[str, str, str]
"""Where the command is ("module:attribute"), the heading that it is listed under, one line of help."""

SHARED_HELP: Final = {
    "directory": "Change to this directory before anything else.",
    "project": "Act as this project; lists show it alone.",
    "output": "Output format: text or json.",
}


class Options:
    """The values of the shared options, as typed; what they mean is decided in oj_cli/context.py."""

    def __init__(self) -> None:
        self.directory: str | None = None
        self.project: str | None = None
        self.output: str = "text"


class LazyGroup(click.Group):
    """A group whose commands are rows of a literal table."""

    def __init__(self, *args: Any, table: Mapping[str, Row], overview: str, **kwargs: Any) -> None:  # noqa: ANN401 - click's own arguments, passed on
        super().__init__(*args, **kwargs)
        self.table = table
        self.overview = overview

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one command."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            message = f"{module}:{attribute} is not a click command"
            raise TypeError(message)
        return with_shared_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but suggesting names that are not imported yet."""
        if args[0] not in self.table and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.NoSuchCommand(args[0], possibilities=self.table, ctx=ctx)
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002
        """The overview, which oj_cli/main.py can also print without click."""
        return self.overview.rstrip("\n")

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Command names with their help out of the table, then click's own answers for options."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only when completing

        return [
            CompletionItem(name, help=row[2])
            for name, row in self.table.items()
            if name.startswith(incomplete)
        ]


def with_shared_options(command: click.Command) -> click.Command:
    """Let `command` and everything below it take the shared options; doing it twice changes nothing."""
    taken = {word for param in command.params for word in param.opts}
    command.params.extend(option for option in shared_options() if taken.isdisjoint(option.opts))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_shared_options(below)
    return command


def shared_options() -> list[click.Option]:
    """Fresh `-C`, `--project` and `-o`, which write into the `Options` of the context."""
    return [
        _shared(["-C", "directory"], metavar="DIR"),
        _shared(["--project"], metavar="NAME"),
        _shared(["-o", "--output"], type=click.Choice(["text", "json"])),
    ]


def _shared(words: list[str], **kwargs: Any) -> click.Option:  # noqa: ANN401 - click's own arguments, passed on
    name = words[-1].lstrip("-")
    return click.Option(
        words, expose_value=False, callback=_remember, help=SHARED_HELP[name], **kwargs
    )


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        setattr(ctx.ensure_object(Options), param.name, value)
