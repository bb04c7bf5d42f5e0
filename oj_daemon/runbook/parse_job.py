"""`job` blocks: steps, the transitions between them, variables, locals and the workspace.

Rule: everything that can be known about a job from its own block is checked here; agents it names are `Ref`s.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable
from itertools import combinations

import msgspec

from oj_daemon.runbook import template
from oj_daemon.runbook.fold import Body, Context, Scope, body_of, check_label, string_map
from oj_daemon.runbook.model import (
    JobDef,
    RunAgent,
    RunShell,
    Source,
    SourceKind,
    StepDef,
    Text,
)
from oj_daemon.runbook.parts import (
    Targets,
    check_target,
    read_container,
    read_notify,
    read_retry,
    read_targets,
)
from oj_daemon.runbook.suggest import did_you_mean
from oj_daemon.runbook.tree import Entry, Node, Object, kind_of
from oj_daemon.runbook.unit import Ref, Unit

MAX_BRANCHES = 100
"""Branches of one fan-out that are compared with each other."""
FOLDER_NAMES = ("id", "root", "nonce", "type")
EARLY_NAMES = (*FOLDER_NAMES, "repo_root", "repo")
GIT_NAMES = (*EARLY_NAMES, "branch", "ref")
STEP_NAMES = ("job_id", "name", "workspace", "step")
NOTIFY_NAMES = ("job_id", "name", "error", "workspace")
MAX_STEPS = 1_000
MAX_LOCALS = 1_000
ADVICE = {
    "item": "fields of a queue item are ${var.<first variable>.<field>} here",
    "step": "${step} is the name of the step",
    "prompt": "only available in the `run` of an agent",
    "input": "write ${var.<name>}",
}


class _Names:
    """The names that templates of one job may use."""

    def __init__(
        self, variables: Iterable[str] | None, kind: SourceKind | None, local: Iterable[str]
    ) -> None:
        self.variables = None if variables is None else list(variables)
        self.kind = kind
        self.local = list(local)

    def scope(
        self,
        known: Iterable[str],
        source: Iterable[str] | None,
        local: Iterable[str] | None,
        *,
        raw: bool = False,
    ) -> Scope:
        """`raw`: variables may also be named without `var.`."""
        dotted: dict[str, list[str] | None] = {
            "var": self.variables,
            "args": self.variables,  # what a command was given are the variables of its job
            "invoke": ["dir"],
        }
        advice = dict(ADVICE)
        if self.kind is None:
            advice["source"] = "the job has no `source`"
        elif source is None:
            advice["source"] = "not yet known when this is filled in"
        else:
            dotted["source"] = list(source)
        if local is None:
            advice["local"] = "not yet known when this is filled in"
        else:
            dotted["local"] = list(local)
            advice["local"] = "the job has no such local"
        words = [*known, *(self.variables or [])] if raw else list(known)
        return Scope(words, dotted, advice, any_word=raw and self.variables is None)

    def everywhere(self, known: Iterable[str]) -> Scope:
        """Once the job exists."""
        return self.scope(
            known, GIT_NAMES if self.kind is SourceKind.GIT else FOLDER_NAMES, self.local
        )


class _Step(msgspec.Struct):
    """A step and the places of what it names."""

    made: StepDef | None
    name: str
    at: Node
    where: str
    on_done: Targets
    on_fail: Targets
    on_cancel: Targets
    after: Targets


def parse_job(ctx: Context, unit: Unit, name: str, at: Node, value: Node) -> JobDef | None:
    """One `job` block."""
    body = body_of(ctx, value, f"job.{name}", at)
    if body is None:
        return None
    variables = body.names("vars", "input")
    defaults = body.plain_map("defaults")
    declared = list(dict.fromkeys([*variables, *defaults])) if variables else None
    source_node = body.value("source")
    kind = _source_kind(source_node)
    local_entries = _local_entries(body)
    names = _Names(declared, kind, [entry.key for entry, _ in local_entries])

    title = body.plain("name", names.scope((), None, None, raw=True))
    cwd_entry = next((entry for entry in body.entries if entry.key == "cwd"), None)
    cwd = body.plain("cwd", names.scope((), None, None, raw=True))
    if cwd_entry is not None and source_node is not None:
        ctx.error(
            cwd_entry,
            f"{body.where} has both `cwd` and `source`",
            "a job with a `source` works in its own workspace",
        )
    source = None if source_node is None else _source(ctx, source_node, names, body.where)
    container = read_container(body)
    local = _locals(ctx, local_entries, names, body.where)
    notify = read_notify(body, names.everywhere(NOTIFY_NAMES))
    on_done = read_targets(body, "on_done", many=True)
    on_fail = read_targets(body, "on_fail", many=False)
    on_cancel = read_targets(body, "on_cancel", many=False)
    step_entries = body.all("step", "steps")
    steps = _steps(ctx, unit, step_entries, names.everywhere(STEP_NAMES), name)
    body.finish(
        {"args": "a job has `vars`, a command has `args`", "run": "what a job runs is in its steps"}
    )
    if not steps:
        if not step_entries:
            body.missing("step", "a job has at least one step")
        return None
    _check_transitions(
        ctx,
        steps,
        [("on_done", on_done), ("on_fail", on_fail), ("on_cancel", on_cancel)],
        body.where,
    )
    made = [step.made for step in steps if step.made is not None]
    if len(made) != len(steps):
        return None
    return JobDef(
        name=name,
        steps=tuple(made),
        title=title,
        vars=variables,
        defaults=defaults,
        cwd=cwd,
        source=source,
        container=container,
        on_done=_names(on_done),
        on_fail=_first(on_fail),
        on_cancel=_first(on_cancel),
        locals=local,
        notify=notify,
    )


def _names(targets: Targets) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in targets))


def _first(targets: Targets) -> str | None:
    return targets[0][0] if targets else None


# Workspace


def _source_kind(node: Node | None) -> SourceKind | None:
    if node is None:
        return None
    return SourceKind.FOLDER if node.value == "folder" else SourceKind.GIT


def _source(ctx: Context, node: Node, names: _Names, job: str) -> Source | None:
    where = f"{job}.source"
    right = 'write source = "folder", or source { git = true }'
    if node.value == "folder":
        return Source(kind=SourceKind.FOLDER)
    if not isinstance(node.value, Object):
        ctx.error(node, f"{where} cannot be {_shown(node)}", right)
        return None
    body = Body(ctx, node, node.value, where)
    git = body.value("git")
    if git is None:
        body.missing("git", right)
    elif git.value is False:
        ctx.error(
            git,
            f"`git = false` is not valid in {where}",
            "omit the block to work in the caller's directory",
        )
    elif git.value is not True:
        ctx.error(git, f"`git` of {where} must be true, not {kind_of(git)}")
    branch = body.plain("branch", names.scope((), EARLY_NAMES, None))
    ref = body.template("ref")
    scope = names.scope((), (*EARLY_NAMES, "branch"), None)
    text = None if ref is None else ctx.text(ref, scope, f"{where}.ref")
    body.finish()
    return Source(kind=SourceKind.GIT, branch=branch, ref=text)


def _shown(node: Node) -> str:
    return f"`{node.value}`" if isinstance(node.value, str) else kind_of(node)


# Locals


def _local_entries(body: Body) -> list[tuple[Entry, Node]]:
    node = body.value("locals", "local")
    return [] if node is None else string_map(body.ctx, node, f"`locals` of {body.where}")


def _locals(
    ctx: Context, entries: list[tuple[Entry, Node]], names: _Names, job: str
) -> dict[str, Text]:
    scope = names.scope(
        (), GIT_NAMES if names.kind is SourceKind.GIT else FOLDER_NAMES, names.local, raw=True
    )
    made: dict[str, Text] = {}
    needs: dict[str, list[str]] = {}
    places: dict[str, Entry] = {}
    known = {entry.key for entry, _ in entries}
    if len(entries) > MAX_LOCALS:
        ctx.error(entries[MAX_LOCALS][0], f"{job} has more than {MAX_LOCALS} locals")
        return {}
    for entry, value in entries:
        key = entry.key
        where = f"{job}.locals.{key}"
        if not check_label(ctx, key, Node(key, entry.start, entry.end), "local"):
            continue
        made[key] = ctx.text(value, scope, where)
        used = {
            found.name.removeprefix("local.") for found in template.placeholders(str(value.value))
        }
        needs[key] = [
            name for name in used if f"local.{name}" in str(value.value) and name in known
        ]
        places[key] = entry
    ordered: dict[str, Text] = {}
    waiting = list(made)
    while waiting:
        ready = next(
            (
                key
                for key in waiting
                if all(need in ordered or need not in made for need in needs[key])
            ),
            None,
        )
        if ready is None:
            cycle = _circle(needs)
            ctx.error(
                places[cycle[0]],
                f"locals of {job} refer to each other in a circle: {' -> '.join(cycle)}",
            )
            return made
        waiting.remove(ready)
        ordered[ready] = made[ready]
    return ordered


def _circle(needs: dict[str, list[str]]) -> list[str]:
    """Names that need each other, the first again at the end; empty if there are none."""
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as exc:
        found: list[str] = exc.args[1]
        return found[::-1]
    return []


# Steps


def _steps(ctx: Context, unit: Unit, entries: list[Entry], scope: Scope, job: str) -> list[_Step]:
    found: list[_Step] = []
    values = _step_values(ctx, entries, job)
    if len(values) > MAX_STEPS:
        ctx.error(values[MAX_STEPS][1], f"job.{job} has more than {MAX_STEPS} steps")
    for label, at, value in values[:MAX_STEPS]:
        body = body_of(ctx, value, f"job.{job}.step[{len(found)}]", at)
        if body is not None:
            found.append(_step(unit, body, label, at, scope))
    seen: dict[str, _Step] = {}
    for step in found:
        if step.name in seen and step.name:
            line = ctx.source.disk_line(ctx.source.place(seen[step.name].at.start)[0])
            ctx.error(
                step.at,
                f"duplicate step name `{step.name}` in {step.where}",
                f"it is already used in line {line}",
            )
        seen.setdefault(step.name, step)
    return found


def _step_values(ctx: Context, entries: list[Entry], job: str) -> list[tuple[str, Node, Node]]:
    """(label, what to point at, body) of each step, in file order."""
    found: list[tuple[str, Node, Node]] = []
    for entry in entries:
        point = Node(entry.key, entry.start, entry.end)
        if entry.is_block:
            if len(entry.labels) > 1:
                ctx.error(entry.labels[1], "step takes one label", 'write step "name" { ... }')
            label = ctx.filled(entry.labels[0]) if entry.labels else point
            found.append((str(label.value) if entry.labels else "", label, entry.value))
        elif isinstance(entry.value.value, list):
            for item in entry.value.value:
                at = Node(
                    None, item.start, item.start + 1 if isinstance(item.value, Object) else item.end
                )
                found.append(("", at, item))
        elif isinstance(entry.value.value, Object):
            found += [
                (inner.key, Node(inner.key, inner.start, inner.end), inner.value)
                for inner in entry.value.value.entries
            ]
        else:
            ctx.error(entry.value, f"steps of job.{job} must be blocks, not {kind_of(entry.value)}")
    return found


def _step(unit: Unit, body: Body, label: str, at: Node, scope: Scope) -> _Step:
    ctx = body.ctx
    given = body.string("name")
    name = label if given is None else str(given.value)
    point = at if given is None else given
    if not name:
        ctx.error(point, f"step name is required in {body.where}")
    else:
        check_label(ctx, name, point, "step")
    body.where = f"{body.where}({name})"
    run = _step_run(ctx, unit, body, scope)
    env = body.env(scope)
    cwd = body.plain("cwd", scope)
    timeout = body.duration("timeout", least=1)
    retry = read_retry(ctx, body, "backoff", least=1)
    on_done = read_targets(body, "on_done", many=True)
    on_fail = read_targets(body, "on_fail", many=False)
    on_cancel = read_targets(body, "on_cancel", many=False)
    after_entry = next((entry for entry in body.entries if entry.key == "after"), None)
    after = [(str(node.value), node) for node in body.strings("after")]
    if after_entry is not None and after_entry.value.value == []:
        ctx.error(after_entry, f"`after` of {body.where} names no step", "leave it out")
    body.finish(
        {
            "needs": 'write after = ["step"]',
            "depends_on": 'write after = ["step"]',
            "attempts": "write retry = { attempts = N }",
        }
    )
    made = None
    if run is not None and name:
        made = StepDef(
            name=name,
            run=run,
            on_done=_names(on_done),
            on_fail=_first(on_fail),
            on_cancel=_first(on_cancel),
            after=_names(after),
            timeout_ms=timeout,
            retry=retry,
            env=env,
            cwd=cwd,
        )
    return _Step(made, name, point, body.where, on_done, on_fail, on_cancel, after)


def _step_run(ctx: Context, unit: Unit, body: Body, scope: Scope) -> RunShell | RunAgent | None:
    node = body.value("run")
    if node is None:
        body.missing("run")
        return None
    where = f"{body.where}.run"
    if isinstance(node.value, str):
        return RunShell(shell=ctx.shell(node, scope, where))
    if not isinstance(node.value, Object):
        ctx.error(
            node,
            f"{where} cannot be {kind_of(node)}",
            'write run = "shell text" or { agent = "name" }',
        )
        return None
    inner = Body(ctx, node, node.value, where)
    job, agent = inner.value("job"), inner.string("agent")
    inner.finish(
        {"attach": "only a command can attach: run = { agent = ..., attach = true } there"}
    )
    if job is not None:
        hint = "start it with `oj run COMMAND`, or make its steps part of this job"
        ctx.error(job, f"a step cannot run a job ({where})", hint)
    elif agent is not None:
        unit.refs.append(Ref("agent", str(agent.value), agent.start, agent.end, where))
        return RunAgent(agent=str(agent.value))
    elif not node.value.entries:
        ctx.error(node, f"{where} says nothing", 'write { agent = "name" }')
    return None


# Transitions


def _check_transitions(
    ctx: Context, steps: list[_Step], job_level: list[tuple[str, Targets]], job: str
) -> None:
    known = [step.name for step in steps if step.name]
    by_name = {step.name: step for step in reversed(steps)}
    transitions: list[tuple[str, str, Node]] = []
    for key, targets in job_level:
        transitions += [(f"{job}.{key}", name, at) for name, at in targets]
    for step in steps:
        for key, targets in (
            ("on_done", step.on_done),
            ("on_fail", step.on_fail),
            ("on_cancel", step.on_cancel),
        ):
            transitions += [(f"{step.where}.{key}", name, at) for name, at in targets]
    for where, name, at in transitions:
        if check_target(ctx, name, at, known, where) and by_name[name].after:
            hint = f"`{name}` starts by itself when the steps in its `after` are done; leave one of the two out"
            ctx.error(at, f"{where} leads to step `{name}`, which has `after`", hint)
    _check_after(ctx, steps, known)
    _check_meetings(ctx, steps, job_level, by_name)
    _check_reachable(ctx, steps, job_level, by_name)


def _check_after(ctx: Context, steps: list[_Step], known: list[str]) -> None:
    needs: dict[str, list[str]] = {}
    for index, step in enumerate(steps):
        seen: set[str] = set()
        for name, at in step.after:
            if name == step.name:
                ctx.error(at, f"step `{name}` cannot come after itself")
            elif name not in known:
                hint = did_you_mean(
                    name, [each for each in known if each != step.name], "steps of this job"
                )
                ctx.error(at, f"`after` of {step.where} references unknown step `{name}`", hint)
            elif name in seen:
                ctx.error(at, f"`after` of {step.where} names `{name}` twice")
            else:
                needs.setdefault(step.name, []).append(name)
            seen.add(name)
        if index == 0 and step.after:
            message = f"the first step of a job cannot have `after` ({step.where})"
            ctx.error(step.after[0][1], message, "it is the one that the job starts with")
    cycle = _circle(needs)
    if cycle:
        first = next(step for step in steps if step.name in cycle)
        ctx.error(
            first.after[0][1], f"steps wait for each other in a circle: {' after '.join(cycle)}"
        )


def _check_meetings(
    ctx: Context,
    steps: list[_Step],
    job_level: list[tuple[str, Targets]],
    by_name: dict[str, _Step],
) -> None:
    """Refuse a step that branches beside each other lead to: it would run once or twice, as their timing has it.

    A failure ends the other branches before it leads on, so only `on_done` and `after` make branches.
    """
    follows = {name: [each for each, _ in step.on_done] for name, step in by_name.items()}
    for step in steps:
        for name, _ in step.after:
            follows.get(name, []).append(step.name)
    told: set[str] = set()
    forks = [step.on_done for step in steps]
    forks += [targets for key, targets in job_level if key == "on_done"]
    for fork in forks:
        heads = {name: at for name, at in fork[:MAX_BRANCHES] if name in by_name}
        if len(heads) < 2:
            continue
        reached = {name: _reach(name, follows) for name in heads}
        for one, other in combinations(heads, 2):
            here = _ways(one, reached[one] - reached[other], by_name)
            there = _ways(other, reached[other] - reached[one], by_name)
            for name in sorted(here.keys() & there.keys() - told):
                told.add(name)
                ends = [way for way in (here[name], there[name]) if way is not None]
                at = ends[-1][1] if ends else heads[other]
                wanted = ", ".join(f'"{end}"' for end, _ in ends)
                ctx.error(
                    at,
                    f"branches that run side by side (`{one}` and `{other}`) both lead to step `{name}`",
                    f"give step `{name}` after = [{wanted}], and let no on_done lead to it",
                )


def _reach(head: str, follows: dict[str, list[str]]) -> set[str]:
    """Steps that a branch can get to while nothing fails."""
    reached: set[str] = set()
    todo = [head]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += follows.get(name, [])
    return reached


def _ways(
    head: str, own: set[str], by_name: dict[str, _Step]
) -> dict[str, tuple[str, Node] | None]:
    """Where the steps that only this branch has lead to, by which of them; the head (None) is entered by the fork."""
    ways: dict[str, tuple[str, Node] | None] = {}
    for name in sorted(own & by_name.keys()):
        for target, at in by_name[name].on_done:
            ways.setdefault(target, (name, at))
    return {**ways, head: None}


def _check_reachable(
    ctx: Context,
    steps: list[_Step],
    job_level: list[tuple[str, Targets]],
    by_name: dict[str, _Step],
) -> None:
    reached: set[str] = set()
    todo = [steps[0].name, *(name for _, targets in job_level for name, _ in targets)]
    while todo:
        name = todo.pop()
        if name in reached or name not in by_name:
            continue
        reached.add(name)
        step = by_name[name]
        todo += [each for each, _ in (*step.on_done, *step.on_fail, *step.on_cancel)]
        todo += [
            other.name
            for other in steps
            if other.after
            and all(each in reached for each, _ in other.after)
            and other.name not in reached
        ]
    for step in steps:
        if step.name and step.name not in reached:
            hint = 'let a transition lead to it, or give it after = ["step"]'
            ctx.error(step.at, f"step is unreachable: {step.where}", hint, warning=True)
