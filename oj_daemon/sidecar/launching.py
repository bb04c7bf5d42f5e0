"""How the agent is started: its environment, and what its driver may know.

Rule: nothing is started here. The environment is ours without what was meant for us, with what hooks need to find us.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from oj_daemon.drivers.base import SOCKET_ENV, TOKEN_ENV, URL_ENV, Driver, LaunchPlan
from oj_daemon.drivers.base import Launch as DriverLaunch
from oj_daemon.errors import AdapterError
from oj_daemon.settings import Secret
from oj_daemon.sidecar import hook, options
from oj_daemon.sidecar.config import AgentConfig
from oj_daemon.sidecar.options import Delays, Options
from oj_daemon.sidecar.values import Timing

RESUME_HEAD: Final = 64
"""Lines of a session log that are looked at to see whose it is."""
CONFIG_DIR_ENV: Final = "CLAUDE_CONFIG_DIR"
API_KEY_ENV: Final = "ANTHROPIC_API_KEY"


def child_env(
    chosen: Options, environ: Mapping[str, str], hook_token: Secret[str], url: str
) -> dict[str, str]:
    """The environment of the agent."""
    env = options.without_ours(environ)
    env["TERM"] = chosen.term
    env.pop("COLUMNS", None)
    env.pop("LINES", None)
    if chosen.groom != "pristine":
        env["OJ_SIDECAR"] = "1"
        if chosen.socket:
            env[SOCKET_ENV] = str(Path(chosen.socket).absolute())
        if url:
            env[URL_ENV] = url
        if hook_token:
            env[TOKEN_ENV] = hook_token.reveal()
    return env


def plans(  # noqa: PLR0913, PLR0917 - gathers what a driver may know
    driver: Driver,
    chosen: Options,
    wanted: AgentConfig,
    env: Mapping[str, str],
    folder: Path,
    fresh_id: str,
) -> tuple[LaunchPlan, Callable[[str], LaunchPlan]]:
    """How to start the agent now, and how again with its conversation."""
    config_dir = env.get(CONFIG_DIR_ENV, "")
    home = env.get("HOME", "")
    is_pristine = chosen.groom == "pristine"

    def plan(resume: str, prompt: str) -> LaunchPlan:
        return driver.plan(
            DriverLaunch(
                folder=str(folder),
                workspace=os.path.realpath(Path.cwd()),
                fresh_id=fresh_id,
                hook=() if is_pristine else (sys.executable, "-I", "-S", hook.__file__),
                argv=chosen.command,
                prompt=prompt,
                resume=resume,
                settings=wanted.settings,
                mcp=wanted.mcp,
                config_dir=config_dir,
                owns_config_dir=wanted.owns_config_dir,
                config_text=_text(Path(config_dir or home or "/") / ".claude.json")
                if wanted.owns_config_dir
                else "",
                api_key=env.get(API_KEY_ENV, ""),
                home=home,
                is_root=os.geteuid() == 0,
                is_sandboxed=wanted.is_sandboxed,
                answer_timeout_s=wanted.answer_timeout_s,
            )
        )

    first = plan(chosen.resume, wanted.prompt)
    if chosen.resume:
        _restore(first, wanted.restore)
        _check_resume(driver, first, chosen.resume)

    def again(session_id: str) -> LaunchPlan:
        if driver.capabilities.resume and session_id:
            resumed = plan(session_id, "")
            if Path(resumed.transcript_path or "/nowhere").is_file():
                return resumed
        return plan("", wanted.prompt)

    return first, again


def _restore(plan: LaunchPlan, saved: str) -> None:
    """Put the saved conversation where the agent looks for it, unless it is there."""
    path = Path(plan.transcript_path)
    if not saved or not plan.transcript_path or path.exists():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(Path(saved).read_bytes())
    except OSError as error:
        raise AdapterError(
            f"bring the conversation back from {saved}: {error.strerror}", code="resume"
        ) from error


def _check_resume(driver: Driver, plan: LaunchPlan, session_id: str) -> None:
    path = Path(plan.transcript_path or "/nowhere")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = [line for line, _ in zip(file, range(RESUME_HEAD), strict=False)]
    except OSError:
        raise AdapterError(
            f"resume {session_id}: there is no such conversation in this folder", code="resume"
        ) from None
    if reason := driver.check_resume(head, session_id, os.path.realpath(Path.cwd())):
        raise AdapterError(f"resume {session_id}: {reason}", code="resume")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def timing(delays: Delays) -> Timing:
    """The machine's part of the delays."""
    return Timing(
        idle_grace_ms=delays.idle_grace_ms,
        input_delay_ms=delays.input_delay_ms,
        input_delay_per_byte_ms=delays.input_delay_per_byte_ms,
        input_delay_max_ms=delays.input_delay_max_ms,
        nudge_timeout_ms=delays.nudge_timeout_ms,
        dismiss_delay_ms=delays.groom_dismiss_delay_ms,
        settle_ms=delays.settle_ms,
        startup_ms=delays.startup_ms,
        silence_ms=delays.silence_ms,
        unknown_ms=delays.unknown_ms,
    )
