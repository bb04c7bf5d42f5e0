"""The `oj` program: a table of commands and the one error boundary.

Rule: no logic and no import of a command here. `oj`, `oj --help` and `oj --version` are answered from this file alone,
without click; everything else goes through click, which imports the one command that was asked for.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # as typing's own, which costs 5 ms to import
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oj_cli.lazy import LazyGroup, Row

ACTIONS = "Actions"
RESOURCES = "Resources"
SYSTEM = "System"

COMMANDS: dict[str, Row] = {
    "run": ("oj_cli.commands.run:run", ACTIONS, "Run a command of the project's runbooks"),
    "cancel": ("oj_cli.commands.shortcut:cancel", ACTIONS, "Cancel jobs"),
    "suspend": (
        "oj_cli.commands.shortcut:suspend",
        ACTIONS,
        "Stop jobs so that they can be resumed",
    ),
    "resume": (
        "oj_cli.commands.shortcut:resume",
        ACTIONS,
        "Carry on with a suspended or failed job",
    ),
    "attach": ("oj_cli.commands.attach:attach", ACTIONS, "Enter an agent's terminal"),
    "peek": ("oj_cli.commands.peek:peek", ACTIONS, "Show an agent's screen"),
    "status": ("oj_cli.commands.status:status", ACTIONS, "What is going on, by project"),
    "tui": ("oj_cli.commands.tui:tui", ACTIONS, "Watch and act on all of it, live"),
    "show": ("oj_cli.commands.shortcut:show", ACTIONS, "Show anything by its id"),
    "job": (
        "oj_cli.commands.job:job",
        RESOURCES,
        "Jobs: list, show, resume, cancel, wait, logs, prune",
    ),
    "agent": (
        "oj_cli.commands.agent:agent",
        RESOURCES,
        "Agents: list, show, logs, peek, attach, send, wait, kill, resume",
    ),
    "decision": (
        "oj_cli.commands.decision:decision",
        RESOURCES,
        "What waits for a person: list, show, resolve, review, reopen",
    ),
    "workspace": (
        "oj_cli.commands.workspace:workspace",
        RESOURCES,
        "The folders that jobs work in",
    ),
    "project": ("oj_cli.commands.project:project", RESOURCES, "Projects known to the daemon"),
    "runbook": (
        "oj_cli.commands.runbook:runbook",
        RESOURCES,
        "Runbooks and libraries: list, check, search, info, add",
    ),
    "token": (
        "oj_cli.commands.token:token",
        RESOURCES,
        "Tokens for people and programs elsewhere: create, list, revoke",
    ),
    "logs": ("oj_cli.commands.shortcut:logs", SYSTEM, "Show the log of anything by its id"),
    "events": ("oj_cli.commands.events:events", SYSTEM, "What happened, fact by fact"),
    "daemon": (
        "oj_cli.commands.daemon:daemon",
        SYSTEM,
        "The daemon: start, stop, restart, status, logs",
    ),
    "init": ("oj_cli.commands.init:init", SYSTEM, "Write a starter runbook"),
    "doctor": (
        "oj_cli.commands.doctor:doctor",
        SYSTEM,
        "Say what works here and how to mend the rest",
    ),
    "completion": (
        "oj_cli.commands.completion:completion",
        SYSTEM,
        "Print the completion script of a shell",
    ),
}

GC_THRESHOLD = 20_000
"""New objects before the garbage collector looks at them; loading a command makes fewer."""

HEAD = """\
Usage: oj [OPTIONS] COMMAND [ARGS]...

  Run declarative runbooks of shell steps as durable jobs.
"""
OPTIONS = """
Options (before or after the command):
  -C DIR                   Change to this directory before anything else
  --project NAME           Act as this project; lists show it alone
  -o, --output text|json   Output format
  -v, -V, --version        Show the version and exit
  -h, --help               Show help and exit; also `oj help COMMAND`
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (that of the process, if none is given) and return its exit code."""
    if argv is not None:
        return _main(list(argv))
    # A process that lives for a tenth of a second: walking over everything loaded, while loading it and once more at
    # exit, would cost a fifth of that time and find nothing to free.
    gc.set_threshold(GC_THRESHOLD)
    code = _main(sys.argv[1:], is_process=True)
    gc.freeze()
    return code


def _main(args: list[str], *, is_process: bool = False) -> int:
    if "_OJ_COMPLETE" not in os.environ:  # noqa: TID251 - click's own signal that a shell asks for completions
        if args in ([], ["-h"], ["--help"], ["help"]):
            return _answer(help_text())
        if args in (["-v"], ["-V"], ["--version"]):
            return _answer(version_text())
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if is_process:
        from oj_cli import interrupt  # noqa: PLC0415 - imports signal; not for help and version

        interrupt.loading()
    return _run(args)


def help_text() -> str:
    """What `oj --help` prints."""
    width = max(map(len, COMMANDS))
    sections = [HEAD]
    for heading in (ACTIONS, RESOURCES, SYSTEM):
        rows = [
            f"  {name:{width}}  {line}\n"
            for name, (_, group, line) in COMMANDS.items()
            if group == heading
        ]
        sections.append(f"\n{heading}:\n{''.join(rows)}")
    return "".join([*sections, OPTIONS])


def version_text() -> str:
    """What `oj --version` prints."""
    from oj_daemon.build import identity  # noqa: PLC0415 - 14 ms for pathlib; only for this option

    return f"oj {identity()}\n"


def root_group() -> LazyGroup:
    """The click group over COMMANDS."""
    import click  # noqa: PLC0415 - 40 ms that help and version do not pay

    from oj_cli.lazy import LazyGroup, shared_options  # noqa: PLC0415 - imports click

    def show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            click.echo(version_text(), nl=False)
            ctx.exit()

    version = click.Option(
        ["-v", "-V", "--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show_version,
    )
    return LazyGroup(
        "oj",
        table=COMMANDS,
        overview=help_text(),
        params=[*shared_options(), version],
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _answer(text: str) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()
    except OSError as error:
        # The flush at exit must not fail for a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if isinstance(error, BrokenPipeError) else _report(error, json=False)
    return 0


def _run(args: list[str]) -> int:
    from oj_cli.lazy import Options  # noqa: PLC0415 - imports click

    options = Options()
    try:
        result = root_group().main(args, prog_name="oj", standalone_mode=False, obj=options)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one boundary of the command line
        return _report(error, json=options.output == "json" or _asks_for_json(args))
    return result if isinstance(result, int) else 0


def _report(error: BaseException, *, json: bool) -> int:
    from oj_cli import diagnostics  # noqa: PLC0415 - only when something went wrong

    return diagnostics.report(error, json=json)


def _asks_for_json(args: list[str]) -> bool:
    """True if the line asks for JSON although it was too wrong to be parsed that far."""
    words = args[: args.index("--")] if "--" in args else args
    line = " ".join(words)
    return any(ask in line for ask in ("-o json", "-ojson", "--output json", "--output=json"))
