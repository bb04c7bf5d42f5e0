"""What one call of `oj` knows: its settings, its project and how to reach the daemon.

Rule: everything is found when first asked for, so a command pays for nothing it does not use. Requests and replies are
plain dictionaries of the shapes in oj_daemon/wire. A query never starts a daemon; an action does.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property, update_wrapper

from oj_cli import diagnostics, interrupt, output
from oj_daemon.errors import OjError, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any, Concatenate, ParamSpec, TypeVar

    import click
    from click.shell_completion import CompletionItem

    from oj_cli.lazy import Options
    from oj_daemon.settings import Settings
    from oj_daemon.wire.client import Client

    P = ParamSpec("P")
    R = TypeVar("R")


class Ctx:
    """One call of `oj`."""

    def __init__(self, options: Options, *, warn: bool = True) -> None:
        self.options = options
        if options.directory is not None:
            _change_directory(options.directory)
        output.configure(color=self.settings.color, no_color=self.settings.no_color)
        if warn:
            for text in self.settings.warnings:
                diagnostics.warn(text)

    @property
    def json(self) -> bool:
        """Whether stdout is for a program."""
        return self.options.output == "json"

    @property
    def project_filter(self) -> str | None:
        """The project that lists are limited to: only what was said on this command line counts."""
        return self.options.project or None

    @cached_property
    def settings(self) -> Settings:
        """The decisions of oj_daemon/settings.py."""
        from oj_daemon import settings  # noqa: PLC0415 - not needed for help

        return settings.load()

    @cached_property
    def invoke_dir(self) -> Path:
        """The folder that `oj` was called in."""
        from pathlib import Path  # noqa: PLC0415 - 8 ms that `oj status` does not pay

        try:
            return Path.cwd()
        except OSError as failure:
            message = "The current directory no longer exists"
            raise OjError(message, code="invalid", hint="cd somewhere else") from failure

    @cached_property
    def root(self) -> Path:
        """The project's folder."""
        from oj_cli import project  # noqa: PLC0415 - imports subprocess; actions only

        return project.find_root(self.invoke_dir)

    @cached_property
    def project(self) -> str:
        """The project's name: flag, environment, configuration, folder."""
        from oj_cli import project  # noqa: PLC0415 - imports subprocess; actions only

        return self.options.project or self.settings.project or project.project_name(self.root)

    @property
    def is_cloned(self) -> bool:
        """Whether jobs work in clones of the caller's repository instead of its folders, which are not where they run."""
        return self.settings.daemon_url is not None or self.settings.runtime == "kubernetes"

    def client(self) -> Client:
        """A connection for several requests, made by the first of them; never starts a daemon."""
        from oj_daemon.wire.client import Client  # noqa: PLC0415 - not needed for shell commands

        return Client(self.settings)

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """A connection for several requests of a query: a daemon that cannot be reached goes into cli.log."""
        try:
            with self.client() as client:
                yield client
        except WireError as failure:
            from oj_cli import autostart  # noqa: PLC0415 - only when something failed

            autostart.note_failure(self.settings, failure)
            raise

    def query(self, type: str, /, **fields: Any) -> dict[str, Any]:  # noqa: A002, ANN401 - the wire's word and values
        """Ask a running daemon; an error when there is none."""
        with self.connected() as client:
            return client.call(type, **fields)

    def action(self, type: str, /, **fields: Any) -> dict[str, Any]:  # noqa: A002, ANN401 - the wire's word and values
        """Ask a daemon to do something, starting one if none runs."""
        from oj_cli import autostart  # noqa: PLC0415 - queries do not start anything

        with autostart.connect(self.settings) as client:
            return client.call(type, **fields)


def pass_ctx(command: Callable[Concatenate[Ctx, P], R]) -> Callable[P, R]:
    """Decorate a command so that its first argument is the `Ctx` of this call."""
    import click  # noqa: PLC0415 - loaded already by whoever defines a command

    from oj_cli.lazy import Options  # noqa: PLC0415 - the same

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        ctx = Ctx(click.get_current_context().ensure_object(Options))
        interrupt.loaded()
        return command(ctx, *args, **kwargs)

    return update_wrapper(call, command)


def row_limit(asked: int | None, default: int, *, no_limit: bool) -> int | None:
    """How many rows a list shows; None for all."""
    if not no_limit:
        return default if asked is None else asked
    if asked is not None:
        import click  # noqa: PLC0415 - loaded already by every list command

        message = "-n and --no-limit exclude each other"
        raise click.UsageError(message, click.get_current_context())
    return None


def complete_job(
    context: click.Context, param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Ids of jobs, for a shell that completes a word."""
    from oj_cli.commands.completion import job_ids  # noqa: PLC0415 - only when completing

    return job_ids(context, param, typed)


def complete_agent(
    context: click.Context, param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Ids of agents, for a shell that completes a word."""
    from oj_cli.commands.completion import agent_ids  # noqa: PLC0415 - only when completing

    return agent_ids(context, param, typed)


def complete_decision(
    context: click.Context, param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Ids of decisions, for a shell that completes a word."""
    from oj_cli.commands.completion import decision_ids  # noqa: PLC0415 - only when completing

    return decision_ids(context, param, typed)


def complete_token(
    context: click.Context, param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Ids of tokens, for a shell that completes a word."""
    from oj_cli.commands.completion import token_ids  # noqa: PLC0415 - only when completing

    return token_ids(context, param, typed)


def _change_directory(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as failure:
        message = f"cannot change to directory '{directory}': {failure.strerror}"
        raise OjError(message, code="invalid") from failure
