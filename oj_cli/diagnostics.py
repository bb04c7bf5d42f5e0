"""The only writer of stderr, and the one place that turns exceptions into exit codes.

Rule: stderr is talk for people. A program that asked for JSON finds the same error on stdout as
`{"error": {"message", "code", "hint"}}`; the exit code does not depend on the format.
"""

from __future__ import annotations

import sys
from enum import IntEnum

from oj_daemon.errors import OjError

USAGE_CODE = "usage"
"""`code` of an error in the command line itself."""


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    """Success, nothing to do, or the daemon does not run and the question was how things are."""
    FAILED = 1
    """Any error; for `job wait`: the job failed."""
    USAGE = 2
    TIMEOUT = 2
    """A wait took too long: the same number as USAGE."""
    NOT_FOUND = 3
    """A wait for something that does not exist."""
    CANCELLED = 4
    """A wait ended because the job was cancelled."""
    SUSPENDED = 5
    """A wait ended because the job was suspended."""
    BLOCKED = 6
    """A wait ended because the job waits for a person (`--until-blocked`)."""
    INTERRUPTED = 130


def say(text: str) -> None:
    """Print one line of talk."""
    _write(text)


def hint(text: str) -> None:
    """Say what to type next; for places where stdout has to be exact."""
    _write(f"Hint: {text}")


def warn(text: str) -> None:
    """Print a warning."""
    _write(f"Warning: {text}")


def error(message: str, *, code: str = "failed", hint: str = "", json: bool = False) -> None:
    """Print an error, and with `json` the error object on stdout as well."""
    _write(f"Error: {message}")
    if hint:
        _write(f"Hint: {hint}")
    if json:
        from oj_cli import output  # noqa: PLC0415 - only where JSON was asked for

        output.json({"error": {"message": message, "code": code, "hint": hint}})


def report(failure: BaseException, *, json: bool = False) -> int:  # noqa: PLR0911 - one line per kind
    """Tell about what ended the program and return its exit code; what is a bug is raised again."""
    if isinstance(failure, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(failure, OjError):
        error(failure.message, code=failure.code or "failed", hint=failure.hint, json=json)
        _causes(failure)
        return ExitCode.FAILED
    from click import exceptions  # noqa: PLC0415 - loaded already if it raised this

    if isinstance(failure, exceptions.Exit):
        return failure.exit_code
    if isinstance(failure, exceptions.Abort):
        return ExitCode.INTERRUPTED
    if isinstance(failure, exceptions.NoArgsIsHelpError):
        failure.show()
        return failure.exit_code
    if isinstance(failure, exceptions.ClickException):
        return _usage(failure, json=json)
    if isinstance(failure, OSError):
        error(_sentence(failure), code="io", json=json)
        return ExitCode.FAILED
    raise failure


def _usage(failure: object, *, json: bool) -> int:
    from click import exceptions  # noqa: PLC0415 - loaded already

    assert isinstance(failure, exceptions.ClickException)  # noqa: S101 - for the type checker
    context = getattr(failure, "ctx", None)
    where = ""
    if context is not None:
        _write(context.get_usage())
        where = f"{context.command_path} --help"
    error(
        failure.format_message(),
        code=USAGE_CODE,
        hint=f"Try '{where}'." if where else "",
        json=json,
    )
    return failure.exit_code


def _causes(failure: OjError) -> None:
    """Print the chain of causes, as far as it says more than the message does."""
    if (
        failure.code == "unavailable"
    ):  # that the socket is missing or deaf is what the message means
        return
    said = failure.message
    cause = failure.__cause__
    heading = "Caused by:"
    while cause is not None:
        text = _sentence(cause) if isinstance(cause, OSError) else str(cause)
        news = cause.strerror if isinstance(cause, OSError) and cause.strerror else text
        if news and news not in said:
            if heading:
                _write(heading)
                heading = ""
            _write(f"  {text}")
            said += f"\n{text}"
        cause = cause.__cause__


def _sentence(failure: OSError) -> str:
    reason = failure.strerror or str(failure) or type(failure).__name__
    return f"{failure.filename}: {reason}" if failure.filename else reason


def _write(text: str) -> None:
    stream = sys.stderr
    if stream is None:  # closed by the caller (`2>&-`): nobody listens
        return
    if stream.isatty():
        from oj_daemon.wire.text import visible  # noqa: PLC0415 - only for terminals

        text = visible(text)
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        # Talk that nobody reads must not turn a success into a failure.
        return
