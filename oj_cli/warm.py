"""The short way to a job: a daemon that is at work already judges the request, and no reader of runbooks is loaded here.

Rule: says no whenever in doubt, and nothing relies on its guess. The daemon reads the same texts with the real reader; when
it refuses, for whatever reason, the long way is taken, and what that says is what the user gets to read. It saves two
fifths of what `oj run` costs.
"""

from __future__ import annotations

import re

from oj_daemon.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oj_cli.context import Ctx
    from oj_daemon.runbook.sources import Sources

NAME = re.compile(r"[A-Za-z0-9_-]+")
RUNS_A_JOB = re.compile(r'^\s*run\s*=\s*\{\s*job\s*=\s*"[^"$\\]+"\s*\}\s*$', re.MULTILINE)
IN_ONE_LINE = re.compile(r'\s*run\s*=\s*\{\s*job\s*=\s*"[^"$\\]+"\s*\}\s*\}\s*')
WORKTREE = re.compile(r"\bgit[\"']?\s*[=:]\s*true")
"""A job in a worktree: git has to be asked about this folder, so what costs less than that does not matter."""


def may_ask(ctx: Ctx, texts: Sources, command: str, args: Sequence[str]) -> bool:
    """Whether the daemon runs, and the command is most probably a job that all words behind it are meant for."""
    if ctx.is_cloned:
        return False  # git has to be asked here, as for a worktree
    mine = args[: args.index("--")] if "--" in args else args
    if any(word.startswith(("-h", "--help", "-d", "--detach", "--wait", "--attach", "--no-attach", "-o", "--output"))
           for word in mine):  # fmt: skip
        return False
    return is_plain_job(texts.files.values(), command) and _answers(ctx)


def is_plain_job(texts: Iterable[str], command: str) -> bool:
    """Whether exactly one text defines the command, as a job without a worktree, in the way everybody writes it."""
    if NAME.fullmatch(command) is None:
        return False
    begin = re.compile(rf'^[ \t]*command[ \t]+"{command}"[ \t]*\{{', re.MULTILINE)
    bodies = []
    for text in texts:
        if WORKTREE.search(text):
            return False
        bodies += [text[match.end() :] for match in begin.finditer(text)]
    if len(bodies) != 1:
        return False
    line, _, _ = bodies[0].partition("\n")
    if IN_ONE_LINE.fullmatch(line):
        return True
    body, closed, _ = bodies[0].partition("\n}")
    return bool(closed) and "<<" not in body and len(RUNS_A_JOB.findall(body)) == 1


def _answers(ctx: Ctx) -> bool:
    try:
        with ctx.client() as client:
            client.connect()
    except WireError:
        return False
    return True
