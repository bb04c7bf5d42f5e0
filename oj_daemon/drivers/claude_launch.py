"""How Claude Code is started: command line, settings with our hooks, first-run configuration.

Rule: pure; what the files hold that exist already is given. Nothing is planned for a folder that is not ours.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from oj_daemon.drivers.base import File, Launch, LaunchPlan
from oj_daemon.drivers.fields import load, pretty

ALLOW_SEND: Final = "Bash(oj-sidecar send:*)"
BYPASS_FLAG: Final = "--dangerously-skip-permissions"
MODE_FLAG: Final = "--permission-mode"
ASKING_TOOLS: Final = "AskUserQuestion|ExitPlanMode|EnterPlanMode"
HOOKS: Final[tuple[tuple[str, str, int], ...]] = (
    # event, matcher ("" for none), seconds (0: as long as an answer may take)
    ("SessionStart", "", 120),
    ("UserPromptSubmit", "", 10),
    ("PreToolUse", ASKING_TOOLS, 10),
    ("PostToolUse", "*", 10),
    ("PermissionRequest", "*", 0),
    ("Notification", "", 10),
    ("Stop", "", 30),
    ("StopFailure", "", 10),
    ("SessionEnd", "", 5),
)
HARMLESS: Final = (
    "trust",
    "theme_picker",
    "terminal_setup",
    "settings_error",
    "login_success",
    "security_notes",
)
"""Start-up dialogs that say nothing new about an agent that a runbook starts in this place."""


def plan_launch(launch: Launch) -> LaunchPlan:
    """Return the command line, the settings file with our hooks, and what else has to be written."""
    session_id = launch.resume or launch.fresh_id
    files: list[File] = []
    extra: list[str] = []
    # Options that take several values come first, or they would swallow the message.
    if launch.mcp:
        path = f"{launch.folder}/mcp.json"
        files.append(File(path=path, text=pretty({"mcpServers": launch.mcp})))
        extra += ["--mcp-config", path]
    settings = merge_settings(launch) if launch.hook else launch.settings
    if settings:
        path = f"{launch.folder}/claude-settings.json"
        files.append(File(path=path, text=pretty(settings)))
        extra += ["--settings", path]
    if launch.hook and not _names_mode(launch):
        extra += [MODE_FLAG, "default"]
    extra += ["--resume" if launch.resume else "--session-id", session_id]
    if launch.prompt:
        extra += ["--", launch.prompt] if launch.prompt.startswith("-") else [launch.prompt]
    env = {"DISABLE_AUTOUPDATER": "1"}
    notes: list[str] = []
    accept = [*HARMLESS]
    if launch.config_dir:
        env["CLAUDE_CONFIG_DIR"] = launch.config_dir
    if launch.config_dir and launch.owns_config_dir:
        files.append(File(path=f"{launch.config_dir}/.claude.json", text=first_run_config(launch)))
    if launch.api_key:
        accept.append("api_key")
    if BYPASS_FLAG in (launch.shell or " ".join(launch.argv)):
        accept.append("bypass_permissions")
        if launch.is_root and launch.is_sandboxed:
            env["IS_SANDBOX"] = "1"
        elif launch.is_root:
            notes.append(
                f"{BYPASS_FLAG} is refused for root outside of a container: run the agent as another user"
            )
    return LaunchPlan(
        argv=_command(launch, extra),
        env=env,
        files=tuple(files),
        session_id=session_id,
        transcript_path=transcript_path(launch, session_id),
        accept_dialogs=tuple(accept),
        notes=tuple(notes),
    )


def check_resume(head: Sequence[str], session_id: str, workspace: str) -> str:
    """Return why the transcript with these first lines is not that session of that workspace."""
    has_entry = False
    for line in head:
        entry = load(line)
        found = entry.get("sessionId")
        if isinstance(found, str) and found != session_id:
            return f"the transcript belongs to session {found}, not to {session_id}"
        cwd = entry.get("cwd")
        if isinstance(cwd, str) and cwd:
            has_entry = True
            if cwd != workspace:
                return f"session {session_id} worked in {cwd}, not in {workspace}"
    return "" if has_entry else f"the transcript of session {session_id} has no entries"


def merge_settings(launch: Launch) -> dict[str, object]:
    """Return the caller's settings with our hooks after theirs and with `oj-sidecar send` allowed."""
    merged = dict(launch.settings)
    theirs = merged.get("hooks")
    hooks: dict[str, object] = dict(theirs) if isinstance(theirs, Mapping) else {}
    for event, matcher, seconds in HOOKS:
        command = " ".join(map(shlex.quote, (*launch.hook, event)))
        ours: dict[str, object] = {"matcher": matcher} if matcher else {}
        ours["hooks"] = [
            {"type": "command", "command": command, "timeout": seconds or launch.answer_timeout_s}
        ]
        before = hooks.get(event)
        hooks[event] = [*(before if isinstance(before, list | tuple) else []), ours]
    merged["hooks"] = hooks
    theirs = merged.get("permissions")
    permissions: dict[str, object] = dict(theirs) if isinstance(theirs, Mapping) else {}
    allow = permissions.get("allow")
    rules = list(allow) if isinstance(allow, list | tuple) else []
    permissions["allow"] = rules if ALLOW_SEND in rules else [*rules, ALLOW_SEND]
    merged["permissions"] = permissions
    return merged


def first_run_config(launch: Launch) -> str:
    """Return the configuration file of a folder that is ours, so that no dialog of the first run comes up."""
    config = dict(load(launch.config_text))
    config["hasCompletedOnboarding"] = True
    config.setdefault("theme", "dark")
    if launch.api_key:
        known = config.get("customApiKeyResponses")
        responses: dict[str, object] = dict(known) if isinstance(known, Mapping) else {}
        approved = responses.get("approved")
        keys = list(approved) if isinstance(approved, list) else []
        tail = launch.api_key[-20:]
        responses["approved"] = keys if tail in keys else [*keys, tail]
        responses.setdefault("rejected", [])
        config["customApiKeyResponses"] = responses
    known = config.get("projects")
    projects: dict[str, object] = dict(known) if isinstance(known, Mapping) else {}
    known = projects.get(launch.workspace)
    project: dict[str, object] = dict(known) if isinstance(known, Mapping) else {}
    project["hasTrustDialogAccepted"] = True
    projects[launch.workspace] = project
    config["projects"] = projects
    return pretty(config)


def transcript_path(launch: Launch, session_id: str) -> str:
    """Return where the session log of a session in this workspace is expected."""
    config = launch.config_dir or f"{launch.home}/.claude"
    folder = re.sub(r"[^A-Za-z0-9]", "-", launch.workspace)
    return f"{config}/projects/{folder}/{session_id}.jsonl"


def _names_mode(launch: Launch) -> bool:
    """Whether the command or the workspace says what needs a permission; since 2.1.330 the program else judges itself."""
    command = launch.shell or " ".join(launch.argv)
    permissions = launch.settings.get("permissions")
    return (
        MODE_FLAG in command
        or BYPASS_FLAG in command
        or (isinstance(permissions, Mapping) and bool(permissions.get("defaultMode")))
    )


def _command(launch: Launch, extra: list[str]) -> tuple[str, ...]:
    if launch.argv:
        return (*launch.argv, *extra)
    return ("bash", "-c", f'{launch.shell.rstrip()} "$@"', "_", *extra)
