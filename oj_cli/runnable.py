"""What `oj run` can run here: reading the project's texts, the list of commands, the help of one.

Rule: looks at files only; shell text is not compiled for a listing, because that costs more than all the rest.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from oj_cli import output
from oj_daemon.errors import OjError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oj_cli.context import Ctx
    from oj_cli.output import Text
    from oj_daemon.runbook.load import Catalog
    from oj_daemon.runbook.model import CommandDef, Flag, Option
    from oj_daemon.runbook.sources import Sources

    Rows = list[Sequence[Text]]

ONE_LINE = 60
"""Longest usage line that is shown beside a name in the list of commands."""


class Entry(NamedTuple):
    """A command in the list."""

    name: str
    usage: str
    description: str
    kind: str
    """shell, job or agent."""
    file: str


class Listing(NamedTuple):
    """What can be run here."""

    commands: list[Entry]
    skipped: list[tuple[str, str]]
    """Files that cannot be used: path, reason."""


def read_texts(ctx: Ctx, runbook: str | None) -> tuple[Sources, str | None]:
    """Every text of the project, and under which path among them the file of `--runbook` is."""
    from oj_daemon.runbook import sources  # noqa: PLC0415 - not for `oj run --version` and its like

    texts = sources.read(ctx.root, ctx.settings.state_dir)
    if runbook is None:
        return texts, None
    path = ctx.invoke_dir / runbook
    if not path.is_file():
        return texts, runbook
    shown = shown_path(ctx.root, path)
    if shown not in texts.files:
        one = sources.read_file(path, shown)
        if one.unreadable:
            raise OjError(
                f"cannot read {runbook}: {one.unreadable[0].reason}",
                code="invalid",
                hint="oj runbook check",
            )
        texts.files.update(one.files)
    return texts, shown


def shown_path(root: Path, path: Path) -> str:
    """A file as messages name it: relative to the project where it is inside."""
    whole = os.path.normpath(path)
    inside = os.path.relpath(whole, root)
    return whole if inside.startswith("..") else inside


def catalog_of(texts: Sources) -> Catalog:
    """Everything that the texts define."""
    from oj_daemon.runbook import load  # noqa: PLC0415 - as above

    return load.Catalog(texts.files, [(each.path, each.reason) for each in texts.unreadable])


def listing(ctx: Ctx) -> Listing:
    """Every command of this project, and the files that cannot be used."""
    texts, _ = read_texts(ctx, None)
    if not texts.files and not texts.unreadable:
        return Listing([], [])  # where there is nothing to read, the reader is not loaded
    catalog = catalog_of(texts)
    entries = [
        _entry(command, book.path)
        for book in catalog.outlines()
        for command in book.commands.values()
    ]
    skipped = [(each.path, each.reason) for each in catalog.skipped_outlines]
    return Listing(sorted(entries), skipped)


def _entry(command: CommandDef, path: str) -> Entry:
    from oj_daemon.runbook import argspec, help, model  # noqa: A004, PLC0415 - loaded already

    kinds = {model.RunShell: "shell", model.RunJob: "job", model.RunAgent: "agent"}
    return Entry(
        command.name,
        argspec.usage(command.args),
        help.describe(command.help_short),
        kinds[type(command.run)],
        path,
    )


def list_rows(found: Listing) -> Rows:
    """The commands, the files that cannot be used, and what to type next."""
    rows: Rows = []
    if found.commands:
        rows.append([output.header("Commands:")])
        table: list[list[Text]] = [
            [output.literal(f"{each.name} {each.usage}".rstrip()[:ONE_LINE]), each.description]
            for each in found.commands
        ]
        rows.extend(output.columns(table, indent=2))
    else:
        rows.append(["No commands found."])
        rows.append(
            [output.context("Put runbooks into .oj/runbooks; `oj init` writes a first one.")]
        )
    if found.skipped:
        rows.extend([[""], [output.status("yellow", "Warnings:")]])
        for _, reason in found.skipped:
            rows.extend([f"  {line}"] for line in reason.split("\n"))
    if found.commands:
        rows.extend([[""], [output.context("`oj run COMMAND --help` explains one.")]])
    return rows


def help_rows(command: CommandDef) -> Rows:
    """What `oj run CMD --help` prints."""
    from oj_daemon.runbook import argspec  # noqa: PLC0415 - loaded already

    rows: Rows = []
    if command.help_short:
        rows.extend([*([line] for line in command.help_short.split("\n")), [""]])
    usage = f"oj run {command.name} {argspec.usage(command.args)}".rstrip()
    rows.append([output.header("Usage: "), usage])
    arguments = _argument_rows(command)
    if arguments:
        rows.extend([[""], [output.header("Arguments:")], *output.columns(arguments, indent=2)])
    rows.extend([[""], [output.header("Options:")]])
    rows.extend(output.columns(_option_rows(command), indent=2))
    if command.help_long:
        text = command.help_long.replace("Usage:", "Examples:")
        rows.extend([[""], [output.header("Description:")]])
        rows.extend([f"  {line}".rstrip()] for line in text.split("\n"))
    return rows


def _argument_rows(command: CommandDef) -> list[list[Text]]:
    spec = command.args
    made: list[list[Text]] = []
    for each in [*spec.positional, *([spec.variadic] if spec.variadic else [])]:
        word = f"{each.name}..." if each is spec.variadic else each.name
        shown = f"<{word}>" if each.required else f"[{word}]"
        made.append([output.literal(shown), _default(command, each.name)])
    return made


def _option_rows(command: CommandDef) -> list[list[Text]]:
    made: list[list[Text]] = []
    for option in command.args.options:
        is_needed = option.required and option.name not in command.defaults
        note = "required" if is_needed else _default(command, option.name)
        made.append([output.literal(f"{_dashed(option)} <{option.name}>"), note])
    made.extend(
        [output.literal(_dashed(flag)), _default(command, flag.name)] for flag in command.args.flags
    )
    made.append([output.literal("-h, --help"), "Show this help"])
    return made


def _dashed(item: Flag | Option) -> str:
    """Short form first; space where there is none, so that long forms stand below each other."""
    if item.short == item.name:
        return f"-{item.short}"
    return f"{f'-{item.short},' if item.short else '   '} --{item.name}"


def _default(command: CommandDef, name: str) -> str:
    value = command.defaults.get(name)
    return f"[default: {value}]" if value else ""
