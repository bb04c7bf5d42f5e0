"""`agent` blocks: the command line of the agent program, its prompt, and what to do when it stops, dies, asks or errs.

Rule: what a driver must know about its program's options stands in the tables here and nowhere else in the language.
"""

from __future__ import annotations

import posixpath
import re
import shlex

from oj_daemon.runbook import template
from oj_daemon.runbook.fold import Body, Context, Scope, body_of, string, word
from oj_daemon.runbook.model import ActionDef, AgentAction, AgentDef, Screen, Shell
from oj_daemon.runbook.parts import read_container, read_notify
from oj_daemon.runbook.suggest import did_you_mean
from oj_daemon.runbook.tree import Node, Object, kind_of
from oj_daemon.runbook.unit import Unit

DRIVERS = ("claude", "generic")
PROGRAMS = {"claude": "claude", "claudeless": "claude"}
"""Base name of the program -> driver."""
CANNOT = {
    "generic": {
        "prime": "be given context at session start",
        "resume": "go on with a conversation in a new session",
        "auto": "be kept from ending its turn",
        "match": "tell kinds of errors apart",
    },
}
"""Driver -> what its programs cannot do, by the word in the runbook that asks for it. The language knows no drivers; that
this agrees with what they say of themselves is proved in tests/oj_daemon/runbook/test_parse_agent.py."""
DOTTED = {
    "var": None,
    "local": None,
    "invoke": ("dir",),
    "source": ("id", "root", "nonce", "type", "branch", "ref", "repo_root", "repo"),
}
ADVICE = {
    "args": "arguments of the command are ${var.<name>} here",
    "item": "fields of a queue item are ${var.<first variable>.<field>} here",
    "step": "${step} is the name of the step",
    "input": "write ${var.<name>}",
}
NAMES = ("agent_id", "job_id", "crew_id", "name", "workspace", "step")
TEXT = Scope(NAMES, DOTTED, ADVICE)
LAUNCH = Scope((*NAMES, "prompt"), DOTTED, ADVICE)
GATE = Scope(("job_id", "crew_id", "name", "workspace"), DOTTED, ADVICE)
NOTIFY = Scope((*NAMES, "agent", "error"), DOTTED, ADVICE)

SOURCES = ("startup", "resume", "clear", "compact")
MATCHES = ("unauthorized", "out_of_credits", "no_internet", "rate_limited")
REASONS = {
    AgentAction.NUDGE: "a nudge needs a running agent that is idle",
    AgentAction.RESUME: "resume starts an agent again that has ended or failed",
    AgentAction.DONE: "an error is not success",
    AgentAction.AUTO: "auto lets the agent decide whether to stop",
}
VALID = {
    "on_idle": ("nudge", "done", "fail", "escalate", "gate", "auto"),
    "on_dead": ("done", "fail", "resume", "escalate", "gate"),
    "on_prompt": ("done", "fail", "escalate", "gate"),
    "on_error": ("fail", "resume", "escalate", "gate"),
}
CHOICES = {
    "on_idle": ("nudge", "done", "skip", "cancel", "dismiss"),
    "on_dead": ("retry", "skip", "done", "cancel", "dismiss"),
    "on_prompt": ("approve", "deny", "skip", "done", "cancel", "dismiss"),
    "on_error": ("retry", "skip", "done", "cancel", "dismiss"),
}
"""What a decision can default to when its time is up."""

ONE_VALUE = frozenset(
    [
        "agent",
        "agents",
        "append-system-prompt",
        "debug",
        "debug-file",
        "fallback-model",
        "file",
        "from-pr",
        "input-format",
        "json-schema",
        "max-budget-usd",
        "mcp-config",
        "model",
        "output-format",
        "permission-mode",
        "plugin-dir",
        "resume",
        "session-id",
        "setting-sources",
        "settings",
        "system-prompt",
        "scenario",
        "tool-mode",
    ]
)
MANY_VALUES = frozenset(
    [
        "add-dir",
        "allowed-tools",
        "allowedTools",
        "betas",
        "disallowed-tools",
        "disallowedTools",
        "tools",
    ]
)
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
STAND_IN = "\ue000"
"""Takes the place of a placeholder while a command line is taken apart; no runbook holds this character."""


def parse_agent(ctx: Context, _unit: Unit, name: str, at: Node, value: Node) -> AgentDef | None:
    """One `agent` block."""
    body = body_of(ctx, value, f"agent.{name}", at)
    if body is None:
        return None
    run_node = body.template("run")
    driver_node = body.string("driver")
    driver = ""
    if driver_node is not None:
        # After a complaint about the driver, the program is nobody's business.
        driver = word(ctx, driver_node, DRIVERS, f"`driver` of {body.where}", "generic")
    prompt = body.plain("prompt", TEXT)
    prompt_file = body.string("prompt_file")
    if prompt is not None and prompt_file is not None:
        ctx.error(
            prompt_file, f"{body.where} has both `prompt` and `prompt_file`", "keep one of them"
        )
    if prompt_file is not None and not str(prompt_file.value).strip():
        ctx.error(prompt_file, f"`prompt_file` of {body.where} is empty")
    run = None
    if run_node is None:
        if _key(value, "run") is None:
            body.missing("run")
    else:
        run = ctx.shell(run_node, LAUNCH, f"{body.where}.run")
        driver = _check_program(
            ctx,
            run_node,
            body.where,
            driver,
            has_prompt=prompt is not None or prompt_file is not None,
        )
    env = body.env(LAUNCH)
    cwd = body.plain("cwd", LAUNCH)
    prime_node = next((entry.value for entry in body.entries if entry.key == "prime"), None)
    prime = _prime(ctx, body)
    idle = body.value("on_idle")
    dead = body.value("on_dead")
    asked = body.value("on_prompt")
    error = body.value("on_error")
    on_idle = None if idle is None else _action(ctx, idle, "on_idle", body.where)
    on_dead = None if dead is None else _action(ctx, dead, "on_dead", body.where)
    on_prompt = None if asked is None else _action(ctx, asked, "on_prompt", body.where)
    on_error = () if error is None else _errors(ctx, error, body.where)
    unable = Unable(ctx, body.where, driver)
    unable.check(prime_node, "prime", "prime")
    for trigger, node, actions in (
        ("on_idle", idle, (on_idle,)),
        ("on_dead", dead, (on_dead,)),
        ("on_error", error, on_error),
    ):
        for action in actions:
            if action is not None:
                unable.check(node, trigger, str(action.action))
                unable.check(node if action.match else None, trigger, "match")
    has_limit = any(entry.key == "max_concurrency" for entry in body.entries)
    limit = body.integer("max_concurrency", 1)
    screen = _screen(ctx, body, driver)
    container = read_container(body)
    notify = read_notify(body, NOTIFY)
    body.finish(
        {
            "on_exit": "did you mean `on_dead`?",
            "command": "did you mean `run`?",
            "name": "the label is the name",
            "model": 'give it to the program: run = "claude --model NAME"',
        }
    )
    if run is None:
        return None
    escalate = ActionDef(action=AgentAction.ESCALATE)
    return AgentDef(
        name=name,
        run=run,
        driver=driver,
        prompt=prompt,
        prompt_file=None if prompt_file is None else str(prompt_file.value),
        env=env,
        cwd=cwd,
        prime=prime,
        on_idle=on_idle,
        on_dead=on_dead or escalate,
        on_prompt=on_prompt or escalate,
        on_error=on_error or (escalate,),
        max_concurrency=limit if has_limit else None,
        screen=screen,
        container=container,
        notify=notify,
    )


def _screen(ctx: Context, body: Body, driver: str) -> Screen | None:
    """`screen { prompt working error idle quiet accept deny }`."""
    node = body.value("screen")
    if node is None:
        return None
    if driver != "generic":
        ctx.error(
            node,
            f"`screen` of {body.where}: driver `{driver or 'claude'}` knows the screens of its program",
            'it is for driver = "generic"',
        )
    inner = body_of(ctx, node, f"`screen` of {body.where}")
    if inner is None:
        return None
    patterns: dict[str, tuple[str, ...]] = {}
    for kind in ("prompt", "working", "error", "idle"):
        nodes = inner.strings(kind)
        for each in nodes:
            try:
                re.compile(str(each.value))
            except re.error as exc:
                ctx.error(
                    each,
                    f"`{kind}` of {inner.where} is no regular expression: {exc}",
                    "patterns are Python's; a backslash in a string is written \\\\",
                )
        patterns[kind] = tuple(str(each.value) for each in nodes)
    quiet = inner.duration("quiet")
    accept, deny = inner.string("accept"), inner.string("deny")
    inner.finish()
    default = Screen()
    return Screen(
        **patterns,
        quiet_ms=default.quiet_ms if quiet is None else quiet,
        accept=default.accept if accept is None else str(accept.value),
        deny=default.deny if deny is None else str(deny.value),
    )


class Unable:
    """Complains about what the program of one agent cannot do."""

    def __init__(self, ctx: Context, where: str, driver: str) -> None:
        self.ctx = ctx
        self.where = where
        self.driver = driver

    def check(self, at: Node | None, key: str, word: str) -> None:
        """One thing that is asked for at a node, if it is there."""
        reason = CANNOT.get(self.driver, {}).get(word)
        if at is None or reason is None:
            return
        shown = key if word in (key, "match") else f'{key} = "{word}"'
        self.ctx.error(
            at,
            f"`{shown}` of {self.where}: driver `{self.driver}` cannot {reason}",
            "`oj doctor` says what each driver cannot do",
        )


# The command line


def _words(text: str) -> list[str] | None:
    """The words of the first simple command; None if it cannot be taken apart."""
    for found in reversed(template.placeholders(text)):
        name = "PROMPT" if found.name == "prompt" else ""
        text = text[: found.start] + STAND_IN + name + STAND_IN + text[found.end :]
    lexer = shlex.shlex(
        text.replace("\\\n", " ").strip(), posix=True, punctuation_chars=";|&()<>\n"
    )
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for token in lexer:
            if token and not token.strip(";|&()<>\n"):
                break
            words.append(token)
    except ValueError:
        return None  # bash has already complained
    while words and (ASSIGNMENT.match(words[0]) or words[0] in ("exec", "env", "command")):
        words.pop(0)
    return words


def _check_program(ctx: Context, node: Node, where: str, driver: str, *, has_prompt: bool) -> str:
    """The driver of an agent, after checking its command line."""
    node = ctx.filled(node, in_shell=True)
    text = str(node.value)
    words = _words(text)
    if not words or STAND_IN in words[0] or "$" in words[0] or "`" in words[0]:
        return driver or "claude"
    program = posixpath.basename(words[0])
    if driver == "generic":
        return driver
    if program not in PROGRAMS:
        near = did_you_mean(program, PROGRAMS, "supported")
        message = f"unrecognized agent command `{program}` in {where}.run"
        _point(ctx, node, program, message, f'{near} (any other program needs driver = "generic")')
        return driver or "claude"
    if any(each == "--session-id" or each.startswith("--session-id=") for each in words):
        _point(
            ctx,
            node,
            "--session-id",
            f"--session-id is managed automatically ({where}.run)",
            "leave it out",
        )
    positional = _positional(words[1:])
    if has_prompt and positional is not None:
        message = f"{where}.run must not include positional arguments when a prompt is configured"
        _point(ctx, node, positional, message, f"`{positional}` would be read as a second prompt")
    return driver or PROGRAMS[program]


def _point(ctx: Context, node: Node, token: str, message: str, hint: str) -> None:
    at = str(node.value).find(token)
    start = node.at(max(at, 0))
    ctx.span(start, start + (len(token) if at >= 0 else 1), message, hint)


def _positional(words: list[str]) -> str | None:
    """The first word that is neither an option, nor the value of one, nor `${prompt}`."""
    prompt = f"{STAND_IN}PROMPT{STAND_IN}"
    index = 0
    while index < len(words):
        each = words[index]
        index += 1
        if each == "--":
            rest = [after for after in words[index:] if after != prompt]
            return rest[0] if rest else None
        name = each.lstrip("-")
        if each.startswith("--") and "=" not in name and name in ONE_VALUE:
            index += 1
        elif each.startswith("--") and "=" not in name and name in MANY_VALUES:
            while index < len(words) and not words[index].startswith("-"):
                index += 1
        elif not each.startswith("-") and each != prompt:
            return each.replace(STAND_IN, "")
    return None


# Prime


def _prime(ctx: Context, body: Body) -> dict[str, Shell]:
    node = body.value("prime")
    if node is None:
        return {}
    where = f"{body.where}.prime"
    if not isinstance(node.value, Object):
        found = _script(ctx, node, where)
        return {} if found is None else {"": found}
    made: dict[str, Shell] = {}
    for entry in node.value.entries:
        if entry.labels or entry.key not in SOURCES:
            hint = did_you_mean(entry.key, SOURCES, "sources")
            ctx.error(entry, f"unknown prime source `{entry.key}` in {where}", hint)
        elif entry.key in made:
            ctx.error(entry, f"`{entry.key}` is set twice in {where}")
        elif isinstance(entry.value.value, Object):
            ctx.error(entry.value, f"nested per-source prime is not allowed ({where}.{entry.key})")
        elif (script := _script(ctx, entry.value, f"{where}.{entry.key}")) is not None:
            made[entry.key] = script
    return made


def _script(ctx: Context, node: Node, where: str) -> Shell | None:
    if not isinstance(node.value, list):
        text = string(ctx, node, where, raw=True)
        return None if text is None else ctx.shell(text, TEXT, where)
    lines: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    for index, item in enumerate(node.value):
        text = string(ctx, item, f"{where}[{index}]", raw=True)
        if text is None:
            return None
        before = len(ctx.problems)
        ctx.shell(text, TEXT, f"{where}[{index}]")
        if len(ctx.problems) > before:
            return None
        line = str(text.value)
        spans += [(length + within, at) for within, at in text.spans] or [(length, text.start)]
        lines.append(line)
        length += len(line) + 1
    if not lines:
        ctx.error(node, f"{where} is empty")
        return None
    return ctx.shell(Node("\n".join(lines), node.start, node.end, spans), TEXT, where)


# Actions


def _errors(ctx: Context, node: Node, agent: str) -> tuple[ActionDef, ...]:
    if not isinstance(node.value, list):
        one = _action(ctx, node, "on_error", agent)
        return () if one is None else (one,)
    if not node.value:
        ctx.error(node, f"{agent}.on_error is empty", "leave it out, or list actions")
    made = [_action(ctx, item, "on_error", agent, listed=True) for item in node.value]
    for index, action in enumerate(made[:-1]):
        if action is not None and action.match is None:
            ctx.error(
                node.value[index + 1],
                f"{agent}.on_error: the entry before matches every error, so this is never tried",
            )
            break
    return tuple(action for action in made if action is not None)


def _action(
    ctx: Context, node: Node, trigger: str, agent: str, *, listed: bool = False
) -> ActionDef | None:
    where = f"{agent}.{trigger}"
    if isinstance(node.value, str):
        node = ctx.filled(node)
        name = _action_word(ctx, node, trigger, where)
        if name is AgentAction.GATE:
            ctx.error(
                node,
                f"missing field `run` in {where}",
                'write { action = "gate", run = "command" }',
            )
        return None if name is None else ActionDef(action=name)
    body = body_of(ctx, node, where)
    if body is None:
        return None
    word_node = body.string("action", required=True)
    name = None if word_node is None else _action_word(ctx, word_node, trigger, where)
    message = body.plain("message", TEXT)
    append = body.flag("append")
    run = body.template("run")
    attempts = _attempts(body)
    cooldown = body.duration("cooldown")
    timeout = body.duration("timeout", least=1)
    default = body.string("default")
    match = body.word("match", MATCHES, "") if trigger == "on_error" else ""
    body.finish({"command": "did you mean `run`?", "step": "an action is not a transition"})
    if name is None:
        return None
    _check_keys(ctx, node, name, where, listed=listed)
    gate = None
    if name is AgentAction.GATE:
        if run is not None:
            gate = ctx.shell(run, GATE, f"{where}.run")
        elif _key(node, "run") is None:
            body.missing("run", "a gate runs a command: exit code 0 lets the agent pass")
    if name is AgentAction.ESCALATE:
        if default is not None:
            word(ctx, default, CHOICES[trigger], f"`default` of {where}", "")
            if _key(node, "timeout") is None:
                ctx.error(
                    default, f"`default` of {where} needs a `timeout`", 'write timeout = "4h"'
                )
        elif timeout is not None:
            choices = ", ".join(CHOICES[trigger])
            body.missing("default", f"say what is chosen when the timeout has passed: {choices}")
    return ActionDef(
        action=name,
        message=message,
        append=append,
        run=gate,
        attempts=attempts,
        cooldown_ms=cooldown or 0,
        match=match or None,
        timeout_ms=timeout,
        default=None if default is None else str(default.value),
    )


BELONGS = {
    "append": (AgentAction.RESUME,),
    "run": (AgentAction.GATE,),
    "timeout": (AgentAction.ESCALATE,),
    "default": (AgentAction.ESCALATE,),
    "message": (AgentAction.NUDGE, AgentAction.RESUME, AgentAction.GATE, AgentAction.ESCALATE),
}
"""Key -> the actions on which it has an effect."""


def _check_keys(ctx: Context, node: Node, name: AgentAction, where: str, *, listed: bool) -> None:
    """Complain about keys that have no effect on this action."""
    for key, actions in BELONGS.items():
        at = _key(node, key)
        if at is not None and name not in actions:
            what = " or ".join(f"`{action}`" for action in actions)
            ctx.error(at, f"`{key}` belongs to action {what}, not `{name}` ({where})")
    match = _key(node, "match")
    if match is not None and not listed:
        hint = 'write on_error = [{ match = "...", action = "..." }]'
        ctx.error(match, f"`match` of {where} belongs into a list", hint)


def _key(node: Node, key: str) -> Node | None:
    """Where a key stands, if it is there."""
    if isinstance(node.value, Object):
        for entry in node.value.entries:
            if entry.key == key:
                return Node(key, entry.start, entry.end)
    return None


def _action_word(ctx: Context, node: Node, trigger: str, where: str) -> AgentAction | None:
    text = str(node.value)
    if text not in list(AgentAction):
        ctx.error(
            node,
            f"unknown action `{text}` in {where}",
            did_you_mean(text, VALID[trigger], "one of"),
        )
        return None
    action = AgentAction(text)
    if text not in VALID[trigger]:
        reason = REASONS.get(action, "")
        if trigger == "on_prompt" and action in (AgentAction.NUDGE, AgentAction.AUTO):
            reason = "the agent is at a prompt, not idle"
        valid = ", ".join(VALID[trigger])
        ctx.error(
            node, f"action `{text}` is not valid for {where}: {reason}", f"valid here: {valid}"
        )
        return None
    return action


def _attempts(body: Body) -> int | None:
    node = body.value("attempts")
    if node is None:
        return 1
    what = f"`attempts` of {body.where}"
    if node.value == "forever":
        return None
    if isinstance(node.value, bool) or not isinstance(node.value, int):
        shown = f"`{node.value}`" if isinstance(node.value, str) else kind_of(node)
        body.ctx.error(node, f'{what}: expected a positive integer or "forever", not {shown}')
        return 1
    if node.value < 1:
        body.ctx.error(node, f"{what} must be >= 1", 'leave it out for once, or write "forever"')
        return 1
    return node.value
