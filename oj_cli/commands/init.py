"""`oj init`: a commented starter runbook for a project that has none.

Rule: never touches a file that exists.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, pass_ctx
from oj_daemon.errors import OjError

FILES: Final = {
    "config.toml": ("config.toml",),
    "runbooks/starter.hcl": ("runbooks", "starter.hcl"),
}
"""Path below `.oj` -> where it is below `oj_cli/starter`."""


@click.command()
@pass_ctx
def init(ctx: Ctx) -> None:
    """Write a commented starter runbook into .oj of this folder.

    Files that exist are left as they are.
    """
    root = ctx.invoke_dir
    if ctx.root != root and (ctx.root / ".oj").is_dir():
        diagnostics.warn(
            f"{root} is inside the project {ctx.root}; from now on it is one of its own"
        )
    written, kept = write_starter(root / ".oj")
    if ctx.json:
        output.json({"root": str(root), "written": written, "kept": kept})
        return
    for path in kept:
        diagnostics.say(f"{path} exists and was left as it is")
    for path in written:
        output.line("wrote ", output.literal(path))
    if written:
        output.line()
    output.lines(
        [
            [
                output.header("Try:"),
                "  ",
                output.literal("oj run"),
                "               what can be run here",
            ],
            ["      ", output.literal("oj run hello Ada"), "     a few lines of shell, right here"],
            ["      ", output.literal("oj run count"), "         a job with parallel steps"],
            ["      ", output.literal("oj status"), "            what is going on"],
            [
                "      ",
                output.literal("oj runbook check"),
                "     after each change of .oj/runbooks",
            ],
        ]
    )


def write_starter(folder: Path) -> tuple[list[str], list[str]]:
    """Write what is missing; paths written and paths kept, as people name them."""
    written: list[str] = []
    kept: list[str] = []
    runbooks = folder / "runbooks"
    has_runbooks = any(runbooks.rglob("*.*")) if runbooks.is_dir() else False
    for name, place in FILES.items():
        target = folder / name
        shown = f".oj/{name}"
        if name.startswith("runbooks/") and has_runbooks and not target.exists():
            # Its commands could clash with the ones that are there.
            kept.append(".oj/runbooks")
            continue
        text = files("oj_cli").joinpath("starter", *place).read_text(encoding="utf-8")
        (written if _write(target, text) else kept).append(shown)
    return written, kept


def _write(target: Path, text: str) -> bool:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as failure:
        if target.parent.is_dir():
            return False
        message = f"cannot write {target}: {target.parent} is no folder"
        raise OjError(message, code="io", hint="move it away, then: oj init") from failure
    except OSError as failure:
        message = f"cannot write {target}: {failure.strerror}"
        raise OjError(message, code="io") from failure
    return True
