"""Claude Code: hooks by a settings file, its session log, its screens.

Rule: as all drivers, pure; what is known about the program's behaviour is recorded in tests/data/drivers/claude. The
hooks are the best witness, the log stands in for them, and the screen knows what neither tells: start-up dialogs,
retries, and that a dialog is gone.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from oj_daemon.drivers.base import (
    AgentError,
    AgentState,
    Answer,
    Capabilities,
    Channel,
    Delivery,
    Dialog,
    Driver,
    Ends,
    ErrorCategory,
    File,
    HookAnswer,
    Json,
    KeyAnswer,
    Keys,
    Launch,
    LaunchPlan,
    Need,
    Option,
    Pacing,
    Prompt,
    PromptKind,
    Question,
    QuestionAnswer,
    Refusal,
    SelectAnswer,
    Signal,
    Source,
    Step,
    Tier,
    Usage,
    UsageEntry,
)
from oj_daemon.drivers.dialogs import known_dialog, option_to_choose
from oj_daemon.drivers.screens import RULE, error_category, last_lines, read_options

ALLOW_SEND: Final = "Bash(oj-sidecar send:*)"
BYPASS_FLAG: Final = "--dangerously-skip-permissions"
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
ERROR_WORDS: Final = {
    "billing_error": ErrorCategory.OUT_OF_CREDITS,
    "authentication_failed": ErrorCategory.UNAUTHORIZED,
    "rate_limit": ErrorCategory.RATE_LIMITED,
    "server_error": ErrorCategory.SERVER_ERROR,
    "overloaded": ErrorCategory.SERVER_ERROR,
}
INTERRUPTED: Final = "[Request interrupted by user"
REJECTED: Final = "User rejected tool use"
ECHOES: Final = ("<command-name>", "<command-message>", "<local-command-", "<bash-")
RETRYING: Final = re.compile(
    r"(?P<what>API error.*?)\s*·\s*Retrying in .*?attempt (?P<attempt>\d+)/(?P<attempts>\d+)",
    re.IGNORECASE,
)
SPINNER: Final = re.compile(r"^\s?[·✢✳✶✻✽*∗]\s+\S[^·]*…")
MARKER: Final = "❯"
INTERRUPT_HINT: Final = "esc to interrupt"
TYPE_OPTION: Final = re.compile(r"^type (something|here)", re.IGNORECASE)
DENIED: Final = "Denied."
PASTE: Final = (b"\x1b[200~", b"\x1b[201~")
ENTER: Final = b"\r"
ESCAPE: Final = b"\x1b"
UP: Final = b"\x1b[A"
DOWN: Final = b"\x1b[B"


class Claude:
    """The driver of Claude Code."""

    name = "claude"
    capabilities = Capabilities(
        hooks=True,
        prime=True,
        stop_gate=True,
        resume=True,
        nudge=True,
        answer_permission=True,
        answer_plan=True,
        answer_question=True,
        errors=True,
        usage=True,
        transcript=True,
        mcp=True,
        settings=True,
    )
    credential_env = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    quiet_ms = 0

    def configured(self, patterns: Json) -> Driver:  # noqa: ARG002 - its screens are known
        """Return itself: the screens of this program are known."""
        return self

    # ---------------------------------------------------------------------------------------------------------- launch

    def plan(self, launch: Launch) -> LaunchPlan:
        """Return the command line, the settings file with our hooks, and what else has to be written."""
        session_id = launch.resume or launch.fresh_id
        files: list[File] = []
        extra: list[str] = []
        # Options that take several values come first, or they would swallow the message.
        if launch.mcp:
            path = f"{launch.folder}/mcp.json"
            files.append(File(path=path, text=_pretty({"mcpServers": launch.mcp})))
            extra += ["--mcp-config", path]
        settings = merge_settings(launch) if launch.hook else launch.settings
        if settings:
            path = f"{launch.folder}/claude-settings.json"
            files.append(File(path=path, text=_pretty(settings)))
            extra += ["--settings", path]
        extra += ["--resume" if launch.resume else "--session-id", session_id]
        if launch.prompt:
            extra += ["--", launch.prompt] if launch.prompt.startswith("-") else [launch.prompt]
        env = {"DISABLE_AUTOUPDATER": "1"}
        notes: list[str] = []
        accept = [
            "trust",
            "theme_picker",
            "terminal_setup",
            "settings_error",
            "login_success",
            "security_notes",
        ]
        if launch.config_dir:
            env["CLAUDE_CONFIG_DIR"] = launch.config_dir
        if launch.config_dir and launch.owns_config_dir:
            files.append(
                File(path=f"{launch.config_dir}/.claude.json", text=first_run_config(launch))
            )
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

    def check_resume(self, head: Sequence[str], session_id: str, workspace: str) -> str:
        """Return why the transcript with these first lines is not that session of that workspace."""
        has_entry = False
        for line in head:
            entry = _load(line)
            found = entry.get("sessionId")
            if isinstance(found, str) and found != session_id:
                return f"the transcript belongs to session {found}, not to {session_id}"
            cwd = entry.get("cwd")
            if isinstance(cwd, str) and cwd:
                has_entry = True
                if cwd != workspace:
                    return f"session {session_id} worked in {cwd}, not in {workspace}"
        return "" if has_entry else f"the transcript of session {session_id} has no entries"

    # ----------------------------------------------------------------------------------------------------------- hooks

    def read_hook(self, event: str, payload: Json) -> Signal:
        """Return what a hook says."""
        tool = _text(payload.get("tool_name"))
        tool_input = payload.get("tool_input")
        base = Signal(
            source=Source.HOOK,
            cause=f"hook:{event}",
            tool=tool,
            input=_compact(tool_input) if tool else "",
            tool_use_id=_text(payload.get("tool_use_id")),
            turn_id=_text(payload.get("prompt_id")),
            session_id=_text(payload.get("session_id")),
            transcript_path=_text(payload.get("transcript_path")),
        )
        match event:
            case "SessionStart":
                return _with(
                    base, need=Need.START, start_source=_text(payload.get("source")) or "unknown"
                )
            case "UserPromptSubmit":
                return _with(
                    base,
                    state=AgentState.WORKING,
                    cause="hook:working",
                    ends=Ends.TURN,
                    turn_started=True,
                )
            case "PreToolUse" if tool in {"AskUserQuestion", "ExitPlanMode"}:
                prompt = _tool_prompt(tool, tool_input, Channel.KEYS, is_ready=False)
                return _with(base, state=AgentState.PROMPT, prompt=prompt, cause=_asks(prompt))
            case "PreToolUse":
                return _with(base, state=AgentState.WORKING, cause=f"hook:tool({tool})")
            case "PermissionRequest":
                prompt = _tool_prompt(tool, tool_input, Channel.HOOK, is_ready=True)
                return _with(
                    base,
                    state=AgentState.PROMPT,
                    prompt=prompt,
                    cause=_asks(prompt),
                    need=Need.ANSWER,
                )
            case "PostToolUse" | "PostToolUseFailure":
                return _with(
                    base, state=AgentState.WORKING, cause=f"hook:tool({tool})", ends=Ends.TOOL
                )
            case "Notification":
                return _notification(base, _text(payload.get("notification_type")))
            case "Stop":
                return _with(
                    base,
                    need=Need.STOP,
                    ends=Ends.TURN,
                    is_second_stop=payload.get("stop_hook_active") is True,
                    last_message=_text(payload.get("last_assistant_message")) or None,
                )
            case "StopFailure":
                word = _text(payload.get("error"))
                detail = _text(payload.get("last_assistant_message")) or word or "unknown"
                return _with(
                    base,
                    state=AgentState.ERROR,
                    cause="hook:error",
                    ends=Ends.TURN,
                    error=AgentError(category=_category(word, detail), detail=detail),
                )
            case "SessionEnd":
                return _with(
                    base, ends=Ends.TURN, cause=f"hook:end({_text(payload.get('reason'))})"
                )
            case _:
                return base

    # ------------------------------------------------------------------------------------------------------------- log

    def read_log(self, line: str) -> list[Signal]:
        """Return what a line of the session log says."""
        entry = _load(line)
        if not entry:
            return []
        usage = _usage(entry)
        if entry.get("isSidechain") is True:  # what a helper of the agent does is not its own state
            found = None
        else:
            found = _log_entry(entry)
        if usage is None:
            return [] if found is None else [found]
        return [_with(found or Signal(source=Source.LOG, cause="log:usage"), usage=usage)]

    # ---------------------------------------------------------------------------------------------------------- screen

    def read_screen(self, lines: Sequence[str]) -> Signal:
        """Return what the screen shows."""
        base = Signal(source=Source.SCREEN)
        bottom = last_lines(lines, 40)
        box = _input_box(bottom)
        if box is not None:
            return _status(base, bottom[:box], bottom[box:])
        options, selected = read_options(bottom)
        known = known_dialog("\n".join(bottom))
        if known is not None:
            dialog = Dialog(known.name, options, selected, known.kind, _dialog_text(bottom))
            prompt = Prompt(
                kind=known.kind,
                subtype=known.name,
                options=options,
                channel=Channel.KEYS,
            )
            cause = "screen:permission" if known.kind is PromptKind.PERMISSION else "screen:setup"
            return _with(base, state=AgentState.PROMPT, prompt=prompt, cause=cause, dialog=dialog)
        if options:
            kind = _dialog_kind(bottom)
            if kind is None:
                return base
            return _with(
                base, dialog=Dialog(kind.value, options, selected, kind, _dialog_text(bottom))
            )
        if any(line.lstrip().startswith(MARKER) for line in bottom[-3:]):
            return _status(base, bottom, bottom[-2:])
        if any(_is_spinner(line) for line in bottom[-6:]):
            return _with(base, state=AgentState.WORKING, cause="screen:thinking")
        return base

    # --------------------------------------------------------------------------------------------------------- answers

    def answer(self, prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
        """Return how an answer reaches the prompt."""
        if prompt.channel is Channel.HOOK:
            return _hook_answer(prompt, answer)
        if prompt.channel is Channel.KEYS:
            return _key_answer(prompt, answer, pacing)
        return Refusal("this dialog can only be answered at the terminal: attach to the agent")

    def select(self, dialog: Dialog, option: int) -> Keys:
        """Return one move towards an option, or Enter when the mark stands on it."""
        if not dialog.options or dialog.selected == option:
            return (Step(ENTER),)
        if not dialog.selected:
            return ()
        return (Step(DOWN if option > dialog.selected else UP),)

    def dismiss(self, dialog: Dialog, accept: Sequence[str]) -> int:
        """Return the option that dismisses a start-up dialog unasked; -1: Enter, it has no options; 0: leave it."""
        return option_to_choose(dialog.name, dialog.options) if dialog.name in accept else 0

    def nudge(self, text: str, pacing: Pacing) -> Keys:
        """Return the keys that send a message."""
        return typed(text, pacing)

    def stop_reply(self, reason: str) -> str:
        """Return what the stop hook prints."""
        return (
            json.dumps({"decision": "block", "reason": reason}, ensure_ascii=False)
            if reason
            else ""
        )


DRIVER: Final[Driver] = Claude()


# --------------------------------------------------------------------------------------------------------------- launch


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
    config = dict(_load(launch.config_text))
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
    return _pretty(config)


def transcript_path(launch: Launch, session_id: str) -> str:
    """Return where the session log of a session in this workspace is expected."""
    config = launch.config_dir or f"{launch.home}/.claude"
    folder = re.sub(r"[^A-Za-z0-9]", "-", launch.workspace)
    return f"{config}/projects/{folder}/{session_id}.jsonl"


def _command(launch: Launch, extra: list[str]) -> tuple[str, ...]:
    if launch.argv:
        return (*launch.argv, *extra)
    return ("bash", "-c", f'{launch.shell.rstrip()} "$@"', "_", *extra)


# ---------------------------------------------------------------------------------------------------------------- hooks


def _tool_prompt(tool: str, tool_input: object, channel: Channel, *, is_ready: bool) -> Prompt:
    options: tuple[str, ...] = ("Yes", "No") if channel is Channel.HOOK else ()
    match tool:
        case "AskUserQuestion":
            questions = _questions(tool_input)
            labels = tuple(o.label for o in questions[0].options) if len(questions) == 1 else ()
            kind, options = PromptKind.QUESTION, labels
        case "ExitPlanMode":
            kind, questions = PromptKind.PLAN, ()
        case _:
            kind, questions = PromptKind.PERMISSION, ()
    return Prompt(
        kind=kind,
        tool=tool,
        input=_compact(tool_input),
        options=options,
        questions=questions,
        channel=channel,
        ready=is_ready,
    )


def _questions(tool_input: object) -> tuple[Question, ...]:
    if not isinstance(tool_input, Mapping):
        return ()
    found = tool_input.get("questions")
    return tuple(
        Question(
            question=_text(item.get("question")),
            header=_text(item.get("header")),
            multi_select=item.get("multiSelect") is True,
            options=_options(item.get("options")),
        )
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, Mapping)
    )


def _options(found: object) -> tuple[Option, ...]:
    return tuple(
        Option(label=_text(item.get("label")), description=_text(item.get("description")))
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, Mapping)
    )


def _asks(prompt: Prompt) -> str:
    return f"hook:prompt({prompt.kind})"


def _notification(base: Signal, kind: str) -> Signal:
    if kind == "permission_prompt":
        prompt = Prompt(kind=PromptKind.PERMISSION, channel=Channel.KEYS, ready=False)
        return _with(base, state=AgentState.PROMPT, prompt=prompt, cause=_asks(prompt))
    if kind == "idle_prompt":
        return _with(base, state=AgentState.IDLE, cause="hook:idle")
    return base


def _category(word: str, detail: str) -> ErrorCategory:
    known = ERROR_WORDS.get(word)
    return known if known is not None else error_category(f"{word} {detail}")


# ------------------------------------------------------------------------------------------------------------------ log


def _log_entry(entry: Json) -> Signal | None:
    match entry.get("type"):
        case "user":
            return None if entry.get("isMeta") is True else _log_user(entry)
        case "assistant":
            return _log_assistant(entry)
        case "system":
            return _log_system(entry)
        case "attachment":
            note = entry.get("attachment")
            if (
                isinstance(note, Mapping)
                and note.get("type") == "hook_blocking_error"
                and note.get("hookEvent") == "Stop"
            ):
                return Signal(
                    source=Source.LOG,
                    state=AgentState.WORKING,
                    tier=Tier.HOOK,
                    cause="log:stop_blocked",
                )
            return None
        case _:
            return _log_error(entry)


def _log_error(entry: Json) -> Signal | None:
    found = entry.get("error")
    if not found or found is True:
        return None if not found else _log_failure(ErrorCategory.OTHER, "unknown")
    detail = found if isinstance(found, str) else _compact(found)
    return _log_failure(_category(detail, detail), detail)


def _log_failure(category: ErrorCategory, detail: str) -> Signal:
    return Signal(
        source=Source.LOG,
        state=AgentState.ERROR,
        cause="log:error",
        error=AgentError(category=category, detail=detail),
    )


def _log_user(entry: Json) -> Signal | None:
    blocks = _blocks(entry)
    turn_id = _text(entry.get("promptId"))
    base = Signal(source=Source.LOG, tier=Tier.HOOK, turn_id=turn_id)
    texts = [_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    if any(text.startswith(INTERRUPTED) for text in texts):
        return _with(base, state=AgentState.IDLE, cause="log:interrupted", ends=Ends.TURN)
    if any(text.startswith(ECHOES) for text in texts):
        return None
    if not results:
        return (
            _with(base, state=AgentState.WORKING, cause="log:user", ends=Ends.TURN)
            if texts
            else None
        )
    tool_use_id = _text(results[0].get("tool_use_id"))
    said = [entry.get("toolUseResult"), *(result.get("content") for result in results)]
    is_rejected = any(isinstance(text, str) and text.startswith(REJECTED) for text in said)
    return _with(
        base,
        state=AgentState.IDLE if is_rejected else AgentState.WORKING,
        cause="log:rejected" if is_rejected else "log:user",
        ends=Ends.TOOL,
        tool_use_id=tool_use_id,
    )


def _log_assistant(entry: Json) -> Signal | None:
    failure = _log_error(entry)
    blocks = _blocks(entry)
    texts = [_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    if failure is not None or entry.get("isApiErrorMessage") is True:
        word = _text(entry.get("error"))
        detail = "\n".join(texts) or word or "unknown"
        return _log_failure(_category(word, detail), detail)
    base = Signal(source=Source.LOG)
    uses = [block for block in blocks if block.get("type") == "tool_use"]
    if uses:
        return _log_tool_use(base, uses)
    if any(block.get("type") in {"thinking", "redacted_thinking"} for block in blocks):
        return _with(base, state=AgentState.WORKING, cause="log:thinking")
    if not texts:
        return None
    message = entry.get("message")
    is_cut = isinstance(message, Mapping) and message.get("stop_reason") == "tool_use"
    return _with(
        base,
        state=AgentState.WORKING if is_cut else AgentState.IDLE,
        cause="log:text" if is_cut else "log:idle",
        tentative=not is_cut,
        last_message="\n".join(texts),
    )


def _log_tool_use(base: Signal, uses: list[Json]) -> Signal:
    tool = _text(uses[0].get("name"))
    tool_input = uses[0].get("input")
    base = _with(
        base,
        tool=tool,
        input=_compact(tool_input),
        tool_use_id=_text(uses[0].get("id")),
    )
    if tool in {"AskUserQuestion", "ExitPlanMode"}:
        prompt = _tool_prompt(tool, tool_input, Channel.KEYS, is_ready=False)
        return _with(
            base, state=AgentState.PROMPT, prompt=prompt, cause=f"log:prompt({prompt.kind})"
        )
    return _with(base, state=AgentState.WORKING, cause=f"log:tool({tool})")


def _log_system(entry: Json) -> Signal | None:
    match entry.get("subtype"):
        case "turn_duration":
            return Signal(
                source=Source.LOG,
                state=AgentState.IDLE,
                tier=Tier.HOOK,
                cause="log:turn",
                ends=Ends.TURN,
            )
        case "api_error":
            attempt, attempts = _number(entry.get("retryAttempt")), _number(entry.get("maxRetries"))
            if not attempt:
                return _log_error(entry)
            detail = _compact(entry.get("error"))
            return Signal(
                source=Source.LOG,
                state=AgentState.WORKING,
                cause="log:retrying",
                error=AgentError(
                    error_category(detail), detail[:500], attempt, max(attempt, attempts)
                ),
            )
        case _:
            return None


def _usage(entry: Json) -> UsageEntry | None:
    message = entry.get("message")
    inner: Json = message if isinstance(message, Mapping) else {}
    found = inner.get("usage", entry.get("usage"))
    if not isinstance(found, Mapping):
        return None
    tokens_in, tokens_out = _number(found.get("input_tokens")), _number(found.get("output_tokens"))
    if not tokens_in and not tokens_out:
        return None
    cost = entry.get("costUSD")
    key = _text(inner.get("id")) or _text(entry.get("requestId")) or _text(entry.get("uuid"))
    return UsageEntry(
        key=key,
        usage=Usage(
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cache_read_tokens=_number(found.get("cache_read_input_tokens")),
            cache_write_tokens=_number(found.get("cache_creation_input_tokens")),
            total_cost_usd=float(cost) if isinstance(cost, int | float) else 0.0,
            request_count=1,
            total_api_ms=_number(entry.get("durationMs")),
        ),
    )


def _blocks(entry: Json) -> list[Json]:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return (
        [block for block in content if isinstance(block, Mapping)]
        if isinstance(content, list)
        else []
    )


# --------------------------------------------------------------------------------------------------------------- screen


def _input_box(bottom: list[str]) -> int | None:
    """Return where the input box begins: a line with the marker between two rules, with nothing but hints below."""
    rules = [index for index, line in enumerate(bottom) if RULE.match(line)]
    if len(rules) < 2:
        return None
    first, last = rules[-2], rules[-1]
    if last - first < 2 or len(bottom) - last > 6:
        return None
    inside = bottom[first + 1].lstrip()
    after = inside.removeprefix(MARKER).lstrip()
    is_option = after[:1].isdigit() and after[1:2] in {".", ")"}
    # Below a list of options there may be a second rule and one more option; below the input there are hints.
    has_options = any(read_options([line])[0] for line in bottom[last + 1 :])
    return first if inside.startswith(MARKER) and not is_option and not has_options else None


def _status(base: Signal, above: list[str], below: list[str]) -> Signal:
    for line in above[-6:]:
        retry = RETRYING.search(line)
        if retry is not None:
            error = AgentError(
                error_category(retry["what"]),
                line.strip(" ✻✽✶✳✢·*"),
                int(retry["attempt"]),
                int(retry["attempts"]),
            )
            return _with(base, state=AgentState.WORKING, cause="screen:retrying", error=error)
    if any(INTERRUPT_HINT in line for line in below) or any(
        _is_spinner(line) for line in above[-6:]
    ):
        return _with(base, state=AgentState.WORKING, cause="screen:thinking")
    return _with(base, state=AgentState.IDLE, cause="screen:idle")


def _is_spinner(line: str) -> bool:
    return SPINNER.match(line) is not None


def _dialog_kind(bottom: list[str]) -> PromptKind | None:
    text = "\n".join(bottom)
    if "Enter to select" in text and "Esc to cancel" in text:
        return PromptKind.QUESTION
    if "Exit plan mode?" in text or "Would you like to proceed?" in text:
        return PromptKind.PLAN
    if "Do you want to " in text:
        return PromptKind.PERMISSION
    return None


def _dialog_text(bottom: list[str]) -> str:
    """Return what a dialog asks: the lines from the rule above it to its options."""
    top = max(
        (i for i, line in enumerate(bottom[:-1]) if RULE.match(line) and not _is_footer(bottom, i)),
        default=-1,
    )
    lines = []
    for line in bottom[top + 1 :]:
        if read_options([line])[0]:
            break
        lines.append(line.strip())
    return "\n".join(lines)


def _is_footer(bottom: list[str], rule: int) -> bool:
    """Whether the first option stands above this rule: then it only parts the last option off."""
    return any(
        line.lstrip(f" {MARKER}").startswith("1.") for line in bottom[max(0, rule - 30) : rule]
    ) and not any(line.lstrip(f" {MARKER}").startswith("1.") for line in bottom[rule:])


# -------------------------------------------------------------------------------------------------------------- answers


def _hook_answer(prompt: Prompt, answer: Answer) -> Delivery:
    match prompt.kind:
        case PromptKind.QUESTION:
            return _hook_question(prompt, answer)
        case PromptKind.PLAN:
            if answer.text and answer.accept is not True:
                return _decide(allow=False, message=answer.text, choice="revise")
            return _hook_yes_no(prompt, answer)
        case _:
            return _hook_yes_no(prompt, answer)


def _hook_yes_no(prompt: Prompt, answer: Answer) -> Delivery:
    accept = answer.accept
    if answer.option is not None:
        if not 1 <= answer.option <= max(len(prompt.options), 1):
            return Refusal(
                f"there is no option {answer.option}: this prompt has {len(prompt.options)}"
            )
        accept = prompt.options[answer.option - 1].lower().startswith("yes")
    if accept is None and answer.text:
        accept = False
    if accept is None:
        return Refusal("the answer says neither yes nor no")
    return _decide(
        allow=accept, message=answer.text or DENIED, choice="allow" if accept else "deny"
    )


def _decide(*, allow: bool, message: str, choice: str) -> HookAnswer:
    decision = {"behavior": "allow"} if allow else {"behavior": "deny", "message": message}
    return HookAnswer(_hook_output(decision), choice)


def _hook_output(decision: Json) -> str:
    output = {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}
    return json.dumps(output, ensure_ascii=False)


def _hook_question(prompt: Prompt, answer: Answer) -> Delivery:
    given = question_answers(prompt, answer)
    if not given:
        if answer.accept is False:
            return _decide(allow=False, message=DENIED, choice="deny")
        return Refusal("the answer chooses no option and has no text")
    if len(given) != len(prompt.questions):
        return Refusal(
            f"expected {len(prompt.questions)} answers (one for each question), got {len(given)}"
        )
    answers: dict[str, str] = {}
    for number, (question, chosen) in enumerate(zip(prompt.questions, given, strict=True), start=1):
        problem = _check_choice(question, chosen, number)
        if problem:
            return Refusal(problem)
        labels = [question.options[index - 1].label for index in chosen.options]
        answers[question.question] = ", ".join([*labels, *([chosen.text] if chosen.text else [])])
    updated = {**_load(prompt.input), "answers": answers}
    choice = "; ".join(answers.values())
    return HookAnswer(_hook_output({"behavior": "allow", "updatedInput": updated}), choice)


def question_answers(prompt: Prompt, answer: Answer) -> tuple[QuestionAnswer, ...]:
    """Return the answers to the questions; a plain option or text answers a single question."""
    if answer.answers:
        return answer.answers
    if len(prompt.questions) != 1 or (answer.option is None and not answer.text):
        return ()
    options = () if answer.option is None else (answer.option,)
    return (QuestionAnswer(options=options, text=answer.text),)


def _check_choice(question: Question, chosen: QuestionAnswer, number: int) -> str:
    name = question.header or f"question {number}"
    if not chosen.options and not chosen.text:
        return f"there is no answer to {name}"
    if any(not 1 <= option <= len(question.options) for option in chosen.options):
        return f"{name} has options 1 to {len(question.options)}"
    if len(chosen.options) + bool(chosen.text) > 1 and not question.multi_select:
        return f"{name} takes one answer"
    return ""


def _key_answer(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    if not prompt.ready:
        return Refusal("the options of this dialog have not been read yet: try again in a moment")
    match prompt.kind:
        case PromptKind.SETUP:
            return _select_setup(prompt, answer)
        case PromptKind.PERMISSION if prompt.subtype:
            return _select_setup(prompt, answer)
        case PromptKind.QUESTION:
            return _type_question(prompt, answer, pacing)
        case PromptKind.PLAN if answer.text and answer.accept is not True:
            return _type_revision(prompt, answer.text, pacing)
        case _:
            return _type_yes_no(prompt, answer, pacing)


def _select_setup(prompt: Prompt, answer: Answer) -> Delivery:
    option = answer.option
    if option is None and answer.accept is not None:
        option = _find(prompt.options, "yes" if answer.accept else "no")
    if not option or option > max(len(prompt.options), 1):
        return Refusal(f"choose an option from 1 to {len(prompt.options)}")
    label = prompt.options[option - 1] if prompt.options else "Enter"
    return SelectAnswer(option, label)


def _type_yes_no(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    option = answer.option
    if prompt.options_fallback:
        accept = answer.accept if option is None else option == 1
        return KeyAnswer((Step(ENTER if accept else ESCAPE),), "accept" if accept else "cancel")
    if option is None:
        accept = answer.accept
        if accept is None:
            return Refusal("the answer says neither yes nor no")
        option = _find(prompt.options, "yes" if accept else "no")
    if not 1 <= option <= min(len(prompt.options), 9):
        return Refusal(f"choose an option from 1 to {len(prompt.options)}")
    keys: Keys = (Step(str(option).encode()),)
    label = prompt.options[option - 1]
    if answer.text and label.lower().startswith("no"):
        keys = (Step(str(option).encode(), pacing.delay_ms), *typed(answer.text, pacing))
    return KeyAnswer(keys, label)


def _type_revision(prompt: Prompt, text: str, pacing: Pacing) -> Delivery:
    # Refused first, then told why: the text is never dropped.
    if prompt.options_fallback:
        return KeyAnswer((Step(ESCAPE, pacing.delay_ms), *typed(text, pacing)), "revise")
    option = next((i for i, o in enumerate(prompt.options, 1) if "tell claude" in o.lower()), 0)
    option = option or _find(prompt.options, "no")
    if not option:
        return Refusal("this dialog has no option that sends the plan back")
    return KeyAnswer((Step(str(option).encode(), pacing.delay_ms), *typed(text, pacing)), "revise")


def _type_question(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    given = question_answers(prompt, answer)
    if not given:
        return Refusal("the answer chooses no option and has no text")
    if len(prompt.questions) != 1 or len(given) != 1 or prompt.questions[0].multi_select:
        return Refusal(
            "several questions, or one with several answers, cannot be typed safely: attach to the agent"
        )
    problem = _check_choice(prompt.questions[0], given[0], 1)
    if problem:
        return Refusal(problem)
    if given[0].text:
        option = next((i for i, o in enumerate(prompt.options, 1) if TYPE_OPTION.match(o)), 0)
        first = Step(str(option).encode() if option else UP, pacing.delay_ms)
        return KeyAnswer((first, *typed(given[0].text, pacing)), given[0].text)
    option = given[0].options[0]
    return KeyAnswer((Step(str(option).encode()),), prompt.questions[0].options[option - 1].label)


def _find(options: Sequence[str], word: str) -> int:
    return next(
        (i for i, label in enumerate(options, 1) if re.match(rf"{word}\b", label, re.IGNORECASE)), 0
    )


def typed(text: str, pacing: Pacing) -> Keys:
    """Return the keys for a text and Enter. Control characters are left out: a message cannot press keys."""
    clean = "".join(c for c in text if c in "\n\t" or (c.isprintable() or c == "\u00a0"))
    data = clean.encode()
    if pacing.bracketed_paste and "\n" in clean:
        data = PASTE[0] + data + PASTE[1]
    return (Step(data, pacing.pause(len(data))), Step(ENTER))


# ---------------------------------------------------------------------------------------------------------------- JSON


def _with(signal: Signal, **changes: object) -> Signal:
    import msgspec

    return msgspec.structs.replace(signal, **changes)


def _load(text: str) -> dict[str, object]:
    if not text.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return (
        int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        else 0
    )


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value is not None else ""


def _pretty(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
