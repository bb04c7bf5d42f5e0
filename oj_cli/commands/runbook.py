"""`oj runbook`: what the project's runbooks say, whether they are right, and the libraries they may import.

Rule: never talks to a daemon; everything is read from files, by the reader that the daemon uses.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_cli.runnable import catalog_of, read_texts, shown_path
from oj_daemon.errors import OjError
from oj_daemon.wire.text import cut

ADD = "oj runbook add FOLDER, with .hcl files right in it"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oj_cli.output import Text
    from oj_daemon.runbook.load import Catalog, LibraryInfo
    from oj_daemon.runbook.sources import Sources
    from oj_daemon.runbook.tree import Problem

LIBRARY_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
DESCRIPTION_WIDTH: Final = 60
KINDS: Final = ("commands", "jobs", "agents", "queues", "workers", "crons")
NONE: Final = "No runbooks in .oj/runbooks"


@click.group()
def runbook() -> None:
    """Runbooks and libraries: list, check, search, info, add."""


@runbook.command("list")
@pass_ctx
def list_(ctx: Ctx) -> None:
    """List runbook files and what they define."""
    texts, _ = read_texts(ctx, None)
    catalog = catalog_of(texts)
    rows = [_file_row(book) for book in catalog.outlines()]
    for skipped in catalog.skipped_outlines:
        diagnostics.warn(f"skipped {skipped.reason}")
    if ctx.json:
        output.json(rows)
    elif not rows:
        diagnostics.say(f"{NONE}; oj init writes a first one")
    else:
        table: list[list[Text]] = [
            [
                output.literal(row["file"].removeprefix(".oj/runbooks/")),
                ", ".join(row["imports"]) or "-",
                ", ".join(row["commands"]) or "-",
                cut(row["description"], DESCRIPTION_WIDTH),
            ]
            for row in rows
        ]
        output.table(["FILE", "IMPORTS", "COMMANDS", "DESCRIPTION"], table)


@runbook.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@pass_ctx
def check(ctx: Ctx, files: tuple[str, ...]) -> int:
    """Check FILEs, or every runbook and library of the project; exits with 1 if anything is wrong."""
    texts, _ = read_texts(ctx, None)
    catalog = catalog_of(texts)
    checked, found = (
        _check_some(ctx, texts, catalog, files) if files else _check_all(texts, catalog)
    )
    errors = sum(not each["warning"] for each in found)
    if ctx.json:
        output.json({"ok": not errors, "files": checked, "problems": found})
    elif not checked:
        diagnostics.say(f"{NONE}; oj init writes a first one")
    else:
        for each in found:
            output.lines([[line] for line in each["text"].split("\n")])
            output.line()
        word = output.status("failed", "errors") if errors else output.status("ok", "ok")
        counts = f"{_count(len(checked), 'file')}, {_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}"
        output.line(word, ": ", counts)
    return ExitCode.FAILED if errors else ExitCode.OK


@runbook.command()
@click.argument("query", default="")
@pass_ctx
def search(ctx: Ctx, query: str) -> None:
    """List libraries whose name or description holds QUERY."""
    texts, _ = read_texts(ctx, None)
    found = catalog_of(texts).search(query)
    if ctx.json:
        output.json([_library_row(each) for each in found])
    elif not found:
        diagnostics.say(f"No library matches '{query}'" if query else "No libraries")
    else:
        rows: list[list[Text]] = [
            [
                output.literal(each.name),
                ", ".join(each.consts) or "-",
                cut(each.description, DESCRIPTION_WIDTH),
            ]
            for each in found
        ]
        output.table(["LIBRARY", "CONSTS", "DESCRIPTION"], rows)


@runbook.command()
@click.argument("path")
@pass_ctx
def info(ctx: Ctx, path: str) -> None:
    """Explain the library PATH: its parameters, what it defines, how to import it."""
    texts, _ = read_texts(ctx, None)
    found = catalog_of(texts).library(path)
    for each in found.problems:
        diagnostics.warn(each.render())
    if ctx.json:
        output.json(
            {
                **_library_row(found),
                "help": found.help_long,
                "definitions": found.entities,
                "usage": found.usage,
            }
        )
        return
    output.line(output.literal(found.name), output.muted(f" ({found.origin})"))
    for text in (found.help_short, found.help_long):
        if text:
            output.lines([[f"  {line}".rstrip()] for line in text.split("\n")])
            output.line()
    if found.consts:
        output.line(output.header("Parameters:"))
        rows: list[list[Text]] = [
            [
                output.literal(name),
                "required" if const.default is None else f"[default: {const.default}]",
            ]
            for name, const in found.consts.items()
        ]
        output.lines([*output.columns(rows, indent=2), [""]])
    for kind, names in found.entities.items():
        if names:
            output.line(output.header(f"{kind.capitalize()}s: "), ", ".join(names))
    output.line()
    output.line(output.header("Usage:"))
    output.lines([[f"  {line}"] for line in found.usage.split("\n")])


@runbook.command()
@click.argument("path")
@click.option("--name", help="Name of the library; default: that of the folder or file.")
@click.option("--local", "--project", is_flag=True, help="Into this project, not for all of yours.")
@pass_ctx
def add(ctx: Ctx, path: str, name: str | None, local: bool) -> None:
    """Install the library in PATH, a folder of .hcl files or one such file; an older one of that name is replaced.

    The files are checked first: a library with mistakes changes nothing.
    """
    source = ctx.invoke_dir / path
    files = _library_files(source, path)
    name = (source.stem if source.is_file() else source.resolve().name) if name is None else name
    if not LIBRARY_NAME.fullmatch(name):
        message = f"'{name}' cannot name a library"
        raise OjError(
            message,
            code="invalid",
            hint="use letters, digits, - and _, with / between parts: --name team/release",
        )
    base = ctx.root / ".oj" / "libraries" if local else ctx.settings.state_dir / "libraries"
    texts = _texts_of(files)
    info_ = _checked(name, texts)
    folder = base / name
    replaced = folder.is_dir() and any(folder.glob("*.hcl"))
    _install(folder, texts)
    for each in info_.problems:
        diagnostics.warn(each.render())
    if ctx.json:
        output.json({"name": name, "path": str(folder), "files": list(texts), "replaced": replaced})
        return
    verb = "Replaced" if replaced else "Added"
    output.line(
        f"{verb} library ", output.literal(name), f" ({_count(len(texts), 'file')}) in {folder}"
    )
    output.lines([[f"  {line}"] for line in info_.usage.split("\n")])


def problems_of(ctx: Ctx) -> tuple[int, int]:
    """How many files there are, and how many of them have errors."""
    texts, _ = read_texts(ctx, None)
    checked, found = _check_all(texts, catalog_of(texts))
    return len(checked), len({each["path"] for each in found if not each["warning"]})


def _check_all(texts: Sources, catalog: Catalog) -> tuple[list[str], list[dict[str, Any]]]:
    found = [_unreadable(each.path, each.reason) for each in texts.unreadable]
    found += [_problem(each) for each in catalog.check()]
    own = [path for path in texts.files if path.startswith(".oj/")]
    return sorted({*own, *(each.path for each in texts.unreadable)}), found


def _check_some(
    ctx: Ctx, texts: Sources, catalog: Catalog, files: Sequence[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    from oj_daemon.runbook import load, sources  # noqa: PLC0415 - loaded already

    checked: list[str] = []
    found: list[dict[str, Any]] = []
    for file in files:
        path = ctx.invoke_dir / file
        shown = shown_path(ctx.root, path)
        if shown in checked:
            continue
        checked.append(shown)
        one = sources.read_file(path, shown)
        if one.unreadable:
            found.append(_unreadable(shown, one.unreadable[0].reason))
            continue
        library = next((each for each in catalog.libraries.values() if shown in each.files), None)
        if library is not None:
            linked, _ = load.check_library(library)
            found += [_problem(each) for each in linked.problems if each.path == shown]
        else:
            linked = load.load_text(shown, one.files[shown], texts.files)
            found += [_problem(each) for each in linked.problems]
    return checked, found


def _problem(found: Problem) -> dict[str, Any]:
    return {
        "path": found.path,
        "line": found.line,
        "column": found.column,
        "message": found.message,
        "hint": found.hint,
        "warning": found.warning,
        "text": found.render(),
    }


def _unreadable(path: str, reason: str) -> dict[str, Any]:
    message = f"cannot read: {reason}"
    text = f"{path}: {message}"
    return {
        "path": path,
        "line": 0,
        "column": 0,
        "message": message,
        "hint": "",
        "warning": False,
        "text": text,
    }


def _file_row(book: Any) -> dict[str, Any]:  # noqa: ANN401 - Runbook, which is imported when used
    from oj_daemon.runbook import help as help_text  # noqa: PLC0415 - loaded already

    names = {kind: list(getattr(book, kind)) for kind in KINDS}
    return {
        "file": book.path,
        "imports": list(book.imports),
        **names,
        "description": help_text.describe(book.help_short),
    }


def _library_row(found: LibraryInfo) -> dict[str, Any]:
    consts = [
        {"name": name, "required": const.default is None, "default": const.default}
        for name, const in found.consts.items()
    ]
    return {
        "name": found.name,
        "origin": found.origin,
        "description": found.description,
        "consts": consts,
    }


def _library_files(source: Path, typed: str) -> list[Path]:
    if source.is_file():
        if source.suffix != ".hcl":
            message = f"cannot add {typed}: a library is made of .hcl files"
            raise OjError(message, code="invalid", hint=ADD)
        return [source]
    files = sorted(
        path for path in source.glob("*.hcl") if path.is_file() and not path.name.startswith(".")
    )
    if not files:
        reason = (
            "there are no .hcl files right in it"
            if source.is_dir()
            else "there is no such file or folder"
        )
        message = f"cannot add {typed}: {reason}"
        raise OjError(message, code="not_found", hint=ADD)
    return files


def _texts_of(files: Sequence[Path]) -> dict[str, str]:
    """File name -> text."""
    from oj_daemon.runbook import sources  # noqa: PLC0415 - loaded already

    texts: dict[str, str] = {}
    for path in files:
        one = sources.read_file(path, path.name)
        if one.unreadable:
            message = f"cannot read {path}: {one.unreadable[0].reason}"
            raise OjError(message, code="invalid")
        texts.update(one.files)
    return texts


def _checked(name: str, texts: dict[str, str]) -> LibraryInfo:
    """What the library is, if nothing is wrong with it."""
    from oj_daemon.runbook import load  # noqa: PLC0415 - loaded already

    found = load.describe_library(load.Library(name=name, origin="user", files=texts))
    errors = [each for each in found.problems if not each.warning]
    if errors:
        shown = "\n".join(each.render() for each in errors)
        message = f"library '{name}' has errors and was not added:\n{shown}"
        raise OjError(message, code="invalid", hint="correct the files and add them again")
    return found


def _install(folder: Path, texts: dict[str, str]) -> None:
    """Put the files there, each whole or not at all, and take away those of an older version."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = []
        for name, text in texts.items():
            # Not called .hcl until it is complete: nobody may read half a file.
            path = folder / f"{name}.{os.getpid()}.new"
            path.write_text(text, encoding="utf-8", newline="")
            fresh.append(path)
        for path, name in zip(fresh, texts, strict=True):
            path.replace(folder / name)
        for old in folder.glob("*.hcl"):
            if old.name not in texts:
                old.unlink()
    except OSError as failure:
        message = f"cannot write to {folder}: {failure.strerror}"
        raise OjError(message, code="io") from failure


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
