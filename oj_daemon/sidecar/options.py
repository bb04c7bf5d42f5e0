"""The command line and the environment of `oj-sidecar` become one value.

Rule: every option has a variable (`OJ_SIDECAR_...`), and the option wins. Secrets come from variables or files, never from
the command line, which everybody on the machine can read. What is wrong here ends the program with 2 before it touched anything.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from oj_daemon import drivers
from oj_daemon.errors import Rejected
from oj_daemon.settings import SOCKET_PATH_LIMIT, Secret

PREFIX: Final = "OJ_SIDECAR_"
GROOM: Final = ("auto", "manual", "pristine")
AGENT_NAME_MOST: Final = 40
"""Longest name of an agent in a place."""
_ALIASES: Final = {"unknown": "generic"}


class Delays(msgspec.Struct, frozen=True):
    """Milliseconds, each set by `OJ_SIDECAR_<NAME>`."""

    shutdown_timeout_ms: int = 10_000
    """From hang-up to SIGKILL."""
    drain_timeout_ms: int = 20_000
    """How long a busy agent is asked politely first; 0: not at all."""
    drain_escape_ms: int = 2000
    screen_debounce_ms: int = 50
    screen_poll_ms: int = 3000
    log_poll_ms: int = 500
    input_delay_ms: int = 200
    input_delay_per_byte_ms: int = 1
    input_delay_max_ms: int = 5000
    write_timeout_ms: int = 5000
    """How long typed bytes may wait for a program that does not read."""
    nudge_timeout_ms: int = 4000
    idle_timeout_ms: int = 0
    """Idle for so long without a break: the sidecar shuts down; 0: never."""
    idle_grace_ms: int = 1000
    groom_dismiss_delay_ms: int = 500
    settle_ms: int = 1500
    startup_ms: int = 60_000
    silence_ms: int = 300_000
    unknown_ms: int = 300_000
    auth_timeout_ms: int = 10_000
    """How long a WebSocket may stay without authentication."""


class Options(msgspec.Struct, frozen=True):
    """Everything that was decided before the start."""

    command: tuple[str, ...]
    agent: str
    """Name of the driver."""
    socket: str = ""
    host: str = "127.0.0.1"
    port: int | None = None
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    """Who signs certificates of clients; without one of those only probes are answered on the port."""
    token: Secret[str] = Secret("")
    config: str = ""
    """Path of the agent configuration file."""
    resume: str = ""
    session_dir: str = ""
    cwd: str = ""
    groom: str = "auto"
    cols: int = 200
    rows: int = 50
    ring_size: int = 1_048_576
    term: str = "xterm-256color"
    log_format: str = "json"
    log_level: str = "info"
    log_file: str = ""
    is_place: bool = False
    """There is no agent: a whole place is served, its steps and the sidecars of its agents."""
    exit_with_child: float | None = None
    """Seconds to stay after the agent's end; None: until told to go."""
    delays: Delays = Delays()


class Usage(Rejected):
    """The command line makes no sense."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(message, code="invalid", hint="oj-sidecar --help")


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Options:  # noqa: C901 - a list of checks
    """Decide everything; Usage when something is wrong or missing."""
    words, command = list(argv), []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    given = vars(parser().parse_args(words))

    def pick(name: str, default: str = "") -> str:
        value = given[name]
        return str(value) if value is not None else environ.get(PREFIX + name.upper(), default)

    def number(name: str, default: int, least: int, most: int) -> int:
        return _number(f"--{name.replace('_', '-')}", pick(name, str(default)), least, most)

    def word(name: str, default: str, words: Sequence[str]) -> str:
        value = pick(name, default).lower()
        if value not in words:
            _refuse(f"--{name.replace('_', '-')} {value}: expected {', '.join(words)}")
        return value

    is_place = given["place"] or environ.get(PREFIX + "PLACE") == "1"
    if is_place and command:
        _refuse("--place: no command can be given with it; agents are started through its API")
    if not is_place and not command:
        _refuse("no command to run: oj-sidecar [OPTIONS] -- COMMAND [ARGS...]")
    agent = pick("agent").lower() or drivers.driver_for("" if is_place else command[0])
    agent = _ALIASES.get(agent, agent)
    if agent not in drivers.driver_names():
        _refuse(f"--agent {agent}: expected {', '.join(drivers.driver_names())}")
    groom = word("groom", "auto", GROOM)
    resume = pick("resume")
    if resume and not drivers.load_driver(agent).capabilities.resume:
        _refuse(f"--resume: the driver {agent} cannot resume a conversation")
    if resume and groom == "pristine":
        _refuse("--resume: not together with --groom pristine")
    port_text, socket = pick("port"), pick("socket")
    if not port_text and not socket:
        _refuse("neither --socket nor --port is given: nobody could reach the agent")
    if len(socket.encode()) > SOCKET_PATH_LIMIT:
        _refuse(f"--socket: the path has more than {SOCKET_PATH_LIMIT} bytes")
    token = _token(pick("token_file"), environ)
    host = pick("host", "127.0.0.1")
    if port_text and not token and not _is_loopback(host):
        _refuse(f"--host {host}: without a token only this machine may reach the agent "
                f"(set {PREFIX}TOKEN or --token-file)")  # fmt: skip
    if pick("client_ca") and not pick("tls_cert"):
        _refuse("--client-ca: certificates of clients need TLS (set --tls-cert)")
    session_dir = pick("session_dir")
    if is_place:
        _check_place(session_dir)
    linger = given["exit_with_child"]
    if linger is None and (text := environ.get(PREFIX + "EXIT_WITH_CHILD")):
        linger = text
    return Options(
        command=tuple(command),
        agent=agent,
        socket=socket,
        host=host,
        port=_number("--port", port_text, 0, 65535) if port_text else None,
        tls_cert=pick("tls_cert"),
        tls_key=pick("tls_key"),
        client_ca=pick("client_ca"),
        token=Secret(token),
        config=pick("agent_config"),
        resume=resume,
        session_dir=session_dir,
        cwd=pick("cwd"),
        groom=groom,
        cols=number("cols", 200, 1, 1000),
        rows=number("rows", 50, 1, 1000),
        ring_size=number("ring_size", 1_048_576, 4096, 1 << 30),
        term=given["term"] or environ.get("TERM") or "xterm-256color",
        log_format=word("log_format", "json", ("json", "text")),
        log_level=word("log_level", "info", ("debug", "info", "warning", "error")),
        log_file=pick("log_file"),
        is_place=is_place,
        exit_with_child=None if linger is None else _seconds("--exit-with-child", linger),
        delays=_delays(environ),
    )


def parser() -> argparse.ArgumentParser:
    """The options, for help and for reading them."""
    made = _Parser(
        prog="oj-sidecar",
        usage="oj-sidecar [OPTIONS] -- COMMAND [ARGS...]\n       oj-sidecar --place [OPTIONS]\n       oj-sidecar send [JSON]",
        description="Internal: runs one agent in a terminal, or serves a place of many, and lets oj see and steer it.",
        epilog=f"Each option may also be given as {PREFIX}<NAME>; the token only there or in a file.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--socket", metavar="PATH", help="unix socket of the API")
    add("--port", metavar="N", help="TCP port of the API; 0 takes a free one")
    add("--host", metavar="ADDRESS", help="where --port listens (127.0.0.1)")
    add("--tls-cert", metavar="FILE", help="certificate chain for --port")
    add("--tls-key", metavar="FILE", help="its key")
    add("--client-ca", metavar="FILE", help="let only clients in whose certificate this CA signed")
    add(
        "--place",
        action="store_true",
        help="no agent: serve a whole container, its steps and the sidecars of its agents",
    )
    add("--token-file", metavar="FILE", help=f"file with the token of the API (or {PREFIX}TOKEN)")
    add("--agent", metavar="KIND", help="claude or generic; by default told by the command's name")
    add("--agent-config", metavar="FILE", help="JSON: settings, mcp, stop, start, prompt, screen")
    add("--resume", metavar="SESSION", help="id of the conversation to carry on with")
    add("--session-dir", metavar="DIR", help="folder for what belongs to this session")
    add("--cwd", metavar="DIR", help="where the agent works")
    add("--groom", metavar="MODE", help="auto, manual or pristine")
    add("--cols", metavar="N", help="width of the terminal (200)")
    add("--rows", metavar="N", help="height of the terminal (50)")
    add("--ring-size", metavar="BYTES", help="how much raw output is kept (1048576)")
    add("--term", metavar="NAME", help="terminal type that the agent is told")
    add("--log-format", metavar="FORMAT", help="json or text")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add("--log-file", metavar="FILE", help="log there and not to stderr")
    add("--exit-with-child", metavar="SECONDS", nargs="?", const="0",
        help="end so many seconds after the agent ended")  # fmt: skip
    return made


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs that we start: ours, without what was meant for us (the token above all)."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _refuse(message: str) -> NoReturn:
    raise Usage(message, code="invalid", hint="oj-sidecar --help")


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        _refuse(f"{name} {text}: expected a number from {least} to {most}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        _refuse(f"{name} {text}: expected a number of seconds")
    return float(text)


def _token(path: str, environ: Mapping[str, str]) -> str:
    if not path:
        return environ.get(PREFIX + "TOKEN", "")
    try:
        text = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"--token-file {shlex.quote(path)}: {error}")
    if not text:
        _refuse(f"--token-file {shlex.quote(path)}: it is empty")
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_place(folder: str) -> None:
    """Sockets of agents lie in it, and the paths of sockets are short."""
    if not folder:
        _refuse("--place: it needs a --session-dir")
    longest = SOCKET_PATH_LIMIT - len(f"/agents/{'x' * AGENT_NAME_MOST}/sock")
    if len(str(Path(folder).absolute()).encode()) > longest:
        _refuse(f"--session-dir {folder}: the path of a place's folder has at most {longest} bytes")


def _delays(environ: Mapping[str, str]) -> Delays:
    given = {
        name: _number(PREFIX + name.upper(), text, 0, 2**31)
        for name in Delays.__struct_fields__
        if (text := environ.get(PREFIX + name.upper()))
    }
    return Delays(**given)
