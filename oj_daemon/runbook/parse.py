"""Text -> what one runbook file says.

Rule: this file knows the blocks of the language. It looks at one file alone; names of other definitions become `Ref`s,
which validate.py follows once imports are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from oj_daemon.runbook import argspec, consts, formats, schedule
from oj_daemon.runbook import help as help_text
from oj_daemon.runbook.fold import (
    Body,
    Compiler,
    Context,
    Scope,
    body_of,
    check_label,
    labelled,
    string,
)
from oj_daemon.runbook.model import (
    ArgSpec,
    CommandDef,
    CronDef,
    Flag,
    Option,
    Positional,
    QueueDef,
    QueueKind,
    Run,
    RunAgent,
    RunJob,
    RunShell,
    Shell,
    WorkerDef,
)
from oj_daemon.runbook.parse_agent import parse_agent
from oj_daemon.runbook.parse_job import parse_job
from oj_daemon.runbook.parts import read_retry
from oj_daemon.runbook.tree import Node, Object, Problem, Source, SyntaxProblem, kind_of
from oj_daemon.runbook.unit import AnyDef, Import, Ref, Supply, Unit

COMMAND_ADVICE = {
    "var": "in command.run write ${args.<name>}",
    "input": "in command.run write ${args.<name>}",
    "local": "only available in job steps",
    "step": "only available in job steps",
    "source": "commands have ${workspace}, not ${source.*}",
    "item": "only available in `take` of a queue",
    "args": 'the command declares no arguments: add args = "<name>"',
}
CRON_ADVICE = {
    "args": "nobody gives a cron arguments",
    "var": "only available in job steps",
    "local": "only available in job steps",
    "source": "only available in job steps",
}
QUEUE_ADVICE = {"item": "only available in `take`, which claims the item that `list` found"}


def parse(source: Source, compiler: Compiler, constants: Mapping[str, str] | None = None) -> Unit:
    """Everything a file defines, and everything wrong with it."""
    ctx = Context(source, compiler, constants or {})
    unit = Unit(source=source, problems=ctx.problems)
    try:
        tree = formats.read(source, ctx.problems)
    except SyntaxProblem as exc:
        ctx.problems.append(exc.problem)
        return unit
    _fold(ctx, unit, tree)
    ctx.problems.sort(key=lambda each: (each.line, each.column))
    return unit


def broken(source: Source, found: Problem) -> Unit:
    """A file that could not even be prepared for reading."""
    return Unit(source=source, problems=[found])


def _fold(ctx: Context, unit: Unit, tree: Object) -> None:
    body = Body(ctx, Node(tree, 0, 0), tree, "the runbook")
    if ctx.source.path.endswith(".hcl"):
        unit.help_short, unit.help_long = help_text.of_file(ctx.source)

    def read_import(name: str, at: Node, value: Node) -> None:
        found = _import(ctx, name, at, value)
        if found is not None:
            unit.imports.append(found)

    def read_const(name: str, at: Node, value: Node) -> None:
        found = _const(ctx, name, at, value)
        if found is not None and name in unit.consts:
            ctx.error(at, f"const `{name}` is defined twice")
        elif found is not None:
            unit.consts[name] = found

    labelled(ctx, body.all("const", "consts"), "const", read_const)
    labelled(ctx, body.all("import", "imports"), "import", read_import)
    for kind, reader in READERS.items():
        labelled(ctx, body.all(kind, f"{kind}s"), kind, _definer(ctx, unit, kind, reader))
    body.known = ["import", "const", *READERS]
    body.finish({"step": 'a step belongs into a job: job "name" { step "name" { ... } }'})


Reader: TypeAlias = Callable[[Context, Unit, str, Node, Node], AnyDef | None]


def _definer(
    ctx: Context, unit: Unit, kind: str, reader: Reader
) -> Callable[[str, Node, Node], None]:
    """What to do with each definition of a kind."""

    def define(name: str, at: Node, value: Node) -> None:
        if (kind, name) in unit.places:
            line = ctx.source.disk_line(ctx.source.place(unit.places[kind, name][0])[0])
            ctx.error(
                at, f"{kind} `{name}` is defined twice", f"it is already defined in line {line}"
            )
        elif check_label(ctx, name, at, kind):
            unit.places[kind, name] = (at.start, at.end)
            made = reader(ctx, unit, name, at, value)
            if made is not None:
                unit.defs[kind][name] = made

    return define


# Imports and constants


def _import(ctx: Context, name: str, at: Node, value: Node) -> Import | None:
    body = body_of(ctx, value, f'import "{name}"', at)
    if body is None:
        return None
    alias = body.string("alias")
    if alias is not None and not check_label(ctx, str(alias.value), alias, "alias"):
        alias = None
    values: dict[str, tuple[str, Node]] = {}

    def read(key: str, where: Node, node: Node) -> None:
        inner = body_of(ctx, node, f"const `{key}` of {body.where}", where)
        if inner is not None:
            given = inner.string("value", required=True)
            inner.finish({"default": "an import gives a `value`"})
            if given is not None:
                values[key] = (str(given.value), where)

    for entry in body.all("const", "consts"):
        if not entry.is_block and isinstance(entry.value.value, Object):
            for inner in (
                entry.value.value.entries
            ):  # const = { name = "value" }, and what TOML and JSON write
                key = Node(inner.key, inner.start, inner.end)
                if isinstance(inner.value.value, Object):
                    read(inner.key, key, inner.value)
                elif (text := string(ctx, inner.value, f"const `{inner.key}`")) is not None:
                    values[inner.key] = (str(text.value), key)
        else:
            labelled(ctx, [entry], "const", read)
    body.finish()
    return Import(
        source=name,
        alias="" if alias is None else str(alias.value),
        consts={key: text for key, (text, _) in values.items()},
        places={key: (node.start, node.end) for key, (_, node) in values.items()},
        start=at.start,
        end=at.end,
    )


def _const(ctx: Context, name: str, at: Node, value: Node) -> consts.Const | None:
    body = body_of(ctx, value, f'const "{name}"', at)
    if body is None or not check_label(ctx, name, at, "const"):
        return None
    default = body.string("default")
    body.finish({"value": "a library gives a `default`, who imports it gives a `value`"})
    return consts.Const(name=name, default=None if default is None else str(default.value))


# Run


def read_run(
    ctx: Context, body: Body, scope: Scope, refs: list[Ref], *, attach: bool = False
) -> Run | None:
    """The `run` of a command or cron."""
    node = body.value("run")
    if node is None:
        body.missing("run")
        return None
    where = f"{body.where}.run"
    if isinstance(node.value, str):
        return RunShell(shell=ctx.shell(node, scope, where))
    if not isinstance(node.value, Object):
        hint = 'write run = "shell text", { job = "name" } or { agent = "name" }'
        ctx.error(node, f"{where} cannot be {kind_of(node)}", hint)
        return None
    inner = Body(ctx, node, node.value, where)
    job, agent = inner.string("job"), inner.string("agent")
    wants_attach = inner.flag("attach") if attach else False
    inner.finish({"step": "run takes a job, an agent or shell text"})
    run: Run | None = None
    if job is not None and agent is not None:
        ctx.error(agent, f"{where} names both a job and an agent", "keep one of them")
    elif job is not None:
        refs.append(Ref("job", str(job.value), job.start, job.end, where))
        run = RunJob(job=str(job.value))
        if wants_attach:
            ctx.error(node, f"{where}: only an agent can be attached to")
    elif agent is not None:
        refs.append(Ref("agent", str(agent.value), agent.start, agent.end, where))
        run = RunAgent(agent=str(agent.value), attach=wants_attach)
    elif not node.value.entries:
        ctx.error(node, f"{where} says nothing", 'write { job = "name" } or { agent = "name" }')
    return run


# Commands


def _command(ctx: Context, unit: Unit, name: str, at: Node, value: Node) -> CommandDef | None:
    body = body_of(ctx, value, f"command.{name}", at)
    if body is None:
        return None
    spec = _args(ctx, body)
    defaults = body.plain_map("defaults")
    declared = argspec.names(spec)
    scope = Scope(
        ["workspace"], {"args": [*declared, *defaults], "invoke": ["dir"]}, COMMAND_ADVICE
    )
    refs: list[Ref] = []
    run = read_run(ctx, body, scope, refs, attach=True)
    body.finish({"vars": "commands have `args`", "name": "the label is the name"})
    unit.refs += refs
    if isinstance(run, RunJob):
        ref = refs[0]
        unit.supplies.append(
            Supply(ref.name, frozenset([*declared, *defaults]), ref.start, ref.end, body.where)
        )
    if run is None:
        return None
    short = long = ""
    if ctx.source.path.endswith(".hcl"):
        short, long = help_text.of_block(ctx.source, at.start)
    return CommandDef(
        name=name, run=run, args=spec, defaults=defaults, help_short=short, help_long=long
    )


def _args(ctx: Context, body: Body) -> ArgSpec:
    node = body.value("args")
    if node is None:
        return ArgSpec()
    where = f"`args` of {body.where}"
    if isinstance(node.value, str):
        node = ctx.filled(node)
        try:
            return argspec.parse(str(node.value))
        except argspec.SpecError as exc:
            ctx.span(node.at(exc.start), node.at(exc.end), f"{where}: {exc}", exc.hint)
            return ArgSpec()
    if not isinstance(node.value, Object):
        ctx.error(node, f"{where} must be a string, not {kind_of(node)}", argspec.GRAMMAR)
        return ArgSpec()
    inner = Body(ctx, node, node.value, where)
    positional: list[Positional] = []
    for item in _items(ctx, inner, "positional"):
        required = item.flag("required", default=True)
        positional.append(Positional(name=_arg_name(ctx, item), required=required))
        item.finish()
    flags: list[Flag] = []
    for item in _items(ctx, inner, "flags"):
        flags.append(Flag(name=_arg_name(ctx, item), short=_short(ctx, item)))
        item.finish()
    options: list[Option] = []
    for item in _items(ctx, inner, "options"):
        name, required = _arg_name(ctx, item), item.flag("required")
        options.append(Option(name=name, short=_short(ctx, item), required=required))
        item.finish()
    variadic = None
    rest = inner.value("variadic")
    if rest is not None and (last := body_of(ctx, rest, f"`variadic` of {where}")) is not None:
        required = last.flag("required", default=True)
        variadic = Positional(name=_arg_name(ctx, last), required=required)
        last.finish()
    inner.finish()
    spec = ArgSpec(tuple(positional), variadic, tuple(options), tuple(flags))
    wrong = argspec.wrong_with(spec)
    if wrong:
        ctx.error(node, f"{where}: {wrong}")
    return spec


def _items(ctx: Context, body: Body, key: str) -> list[Body]:
    node = body.value(key)
    if node is None:
        return []
    if not isinstance(node.value, list):
        ctx.error(node, f"`{key}` of {body.where} must be a list of objects, not {kind_of(node)}")
        return []
    found = [body_of(ctx, item, f"`{key}` of {body.where}") for item in node.value]
    return [item for item in found if item is not None]


def _arg_name(ctx: Context, body: Body) -> str:
    node = body.string("name", required=True)
    if node is None:
        return ""
    if argspec.NAME.fullmatch(str(node.value)) is None:
        ctx.error(
            node, f"`{node.value}` is not the name of an argument", "use letters, digits, _ and -"
        )
        return ""
    return str(node.value)


def _short(ctx: Context, body: Body) -> str:
    node = body.string("short")
    if node is None:
        return ""
    text = str(node.value).removeprefix("-")
    if len(text) != 1 or not text.isascii() or not text.isalnum():
        ctx.error(node, f"short form `{node.value}` is not one letter")
        return ""
    return text


# Queues, workers, crons


def _queue(ctx: Context, _unit: Unit, name: str, at: Node, value: Node) -> QueueDef | None:
    body = body_of(ctx, value, f"queue.{name}", at)
    if body is None:
        return None
    kind = QueueKind(body.word("type", list(QueueKind), QueueKind.EXTERNAL))
    shells: dict[str, Shell] = {}
    for key in ("list", "take"):
        node = body.template(key)
        if node is None:
            if kind is QueueKind.EXTERNAL:
                body.missing(
                    key,
                    'an external queue requires `list` and `take`; a queue that oj keeps has type = "persisted"',
                )
        elif kind is QueueKind.PERSISTED:
            ctx.error(
                node,
                f"{body.where} must not have `{key}`",
                "a persisted queue is kept by oj itself",
            )
        else:
            scope = Scope((), {"item": None}) if key == "take" else Scope((), {}, QUEUE_ADVICE)
            shells[key] = ctx.shell(node, scope, f"{body.where}.{key}")
    poll_node = next((entry for entry in body.entries if entry.key == "poll"), None)
    poll = body.duration("poll", least=1)
    names = body.names("vars")
    defaults_node = next((entry for entry in body.entries if entry.key == "defaults"), None)
    defaults = body.plain_map("defaults")
    retry_node = next((entry for entry in body.entries if entry.key == "retry"), None)
    retry = read_retry(ctx, body, "cooldown", least=0)
    if kind is QueueKind.PERSISTED:
        if poll_node is not None:
            ctx.error(
                poll_node,
                f"{body.where} must not have `poll`",
                "a persisted queue is kept by oj itself",
            )
        if not names:
            body.missing("vars", "a persisted queue requires the names of the fields of its items")
        for key in defaults:
            if key not in names and defaults_node is not None:
                ctx.error(
                    defaults_node,
                    f"`defaults` of {body.where} sets `{key}`, which is not in `vars`",
                )
    elif retry_node is not None:
        ctx.error(
            retry_node,
            f"{body.where} must not have `retry`",
            'only oj\'s own queues (type = "persisted") retry',
        )
    body.finish()
    return QueueDef(
        name=name,
        kind=kind,
        list=shells.get("list"),
        take=shells.get("take"),
        poll_ms=poll,
        vars=names,
        defaults=defaults,
        retry=retry,
    )


def _worker(ctx: Context, unit: Unit, name: str, at: Node, value: Node) -> WorkerDef | None:
    body = body_of(ctx, value, f"worker.{name}", at)
    if body is None:
        return None
    queue = _reference(ctx, unit, body, "source", "queue")
    job = _reference(ctx, unit, body, "run", "job")
    concurrency = body.integer("concurrency", 1)
    body.finish(
        {"handler": 'write run = { job = "name" }', "queue": 'write source = { queue = "name" }'}
    )
    if queue is None or job is None:
        return None
    return WorkerDef(name=name, queue=queue, job=job, concurrency=concurrency)


def _reference(ctx: Context, unit: Unit, body: Body, key: str, kind: str) -> str | None:
    node = body.value(key)
    right = f'write {key} = {{ {kind} = "name" }}'
    if node is None:
        body.missing(key, right)
        return None
    if not isinstance(node.value, Object):
        hint = (
            f'write {key} = {{ {kind} = "{node.value}" }}' if isinstance(node.value, str) else right
        )
        ctx.error(node, f"`{key}` of {body.where} must be an object, not {kind_of(node)}", hint)
        return None
    inner = Body(ctx, node, node.value, f"`{key}` of {body.where}")
    found = inner.string(kind, required=True)
    inner.finish()
    if found is None:
        return None
    unit.refs.append(
        Ref(kind, str(found.value), found.start, found.end, f"{body.where}.{key}.{kind}")
    )
    return str(found.value)


def _cron(ctx: Context, unit: Unit, name: str, at: Node, value: Node) -> CronDef | None:
    body = body_of(ctx, value, f"cron.{name}", at)
    if body is None:
        return None
    interval_given = any(entry.key == "interval" for entry in body.entries)
    interval = body.duration("interval", least=1)
    expression = body.string("schedule")
    if expression is not None:
        try:
            schedule.check(str(expression.value))
        except schedule.ScheduleError as exc:
            start = expression.at(exc.start)
            ctx.span(start, expression.at(exc.end), f"`schedule` of {body.where}: {exc}", exc.hint)
        if interval_given:
            ctx.error(
                expression, f"{body.where} has both `interval` and `schedule`", "keep one of them"
            )
    elif not interval_given:
        body.missing("interval", 'write interval = "1h", or schedule = "0 7 * * 1-5"')
    zone = body.string("timezone")
    if zone is not None:
        if expression is None:
            ctx.error(
                zone,
                f"`timezone` of {body.where} has no effect on an interval",
                "it belongs to `schedule`",
            )
        elif not schedule.is_timezone(str(zone.value)):
            ctx.error(
                zone,
                f"unknown time zone `{zone.value}`",
                "write a name such as Europe/Berlin or UTC",
            )
    concurrency = body.integer("concurrency", 1)
    overlap = body.word("overlap", ("skip", "queue"), "skip")
    catch_up = body.word("catch_up", ("none", "one", "all"), "none")
    refs: list[Ref] = []
    scope = Scope(["job_id", "workspace"], {"invoke": ["dir"]}, CRON_ADVICE)
    run = read_run(ctx, body, scope, refs)
    body.finish()
    unit.refs += refs
    if isinstance(run, RunJob):
        unit.supplies.append(
            Supply(refs[0].name, frozenset(), refs[0].start, refs[0].end, body.where)
        )
    if run is None:
        return None
    return CronDef(
        name=name,
        run=run,
        interval_ms=interval,
        schedule=None if expression is None else str(expression.value),
        timezone="UTC" if zone is None else str(zone.value),
        concurrency=concurrency,
        overlap=overlap,
        catch_up=catch_up,
    )


READERS: Final[dict[str, Reader]] = {
    "command": _command,
    "job": parse_job,
    "agent": parse_agent,
    "queue": _queue,
    "worker": _worker,
    "cron": _cron,
}
"""Kind -> what reads one definition of it."""
