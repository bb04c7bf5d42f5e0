"""Merging imports into a file and following every name that one definition uses for another.

Rule: pure. A library is judged with the values its importer gave; its names get the importer's alias first, then every
reference has to lead somewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from oj_daemon.runbook.model import (
    AgentDef,
    CommandDef,
    CronDef,
    JobDef,
    QueueDef,
    RunAgent,
    Runbook,
    RunJob,
    WorkerDef,
)
from oj_daemon.runbook.suggest import did_you_mean
from oj_daemon.runbook.tree import MAX_PROBLEMS, Problem, has_enough, problem
from oj_daemon.runbook.unit import KINDS, AnyDef, Import, Unit


class Imported(msgspec.Struct):
    """A library as one file imports it."""

    block: Import
    units: list[Unit]
    """Its files, already checked one by one."""


class Linked(msgspec.Struct):
    """A runbook and what is wrong with it."""

    runbook: Runbook
    problems: list[Problem]
    """Errors and warnings."""

    @property
    def errors(self) -> list[Problem]:
        """What keeps the runbook from being used."""
        return [each for each in self.problems if not each.warning]


def link(main: Unit, imports: Sequence[Imported]) -> Linked:
    """One runbook out of a file and the libraries it imports."""
    merge = _Merge(main)
    renames = [_renames(imported) for imported in imports]
    for imported, rename in zip(imports, renames, strict=True):
        for unit in imported.units:
            merge.add(imported.block, unit, rename)
        merge.note(clashes(imported.units))
    merge.note(_follow(main, {}, merge))
    for imported, rename in zip(imports, renames, strict=True):
        for unit in imported.units:
            merge.note(_follow(unit, rename, merge))
    # What is wrong in the file itself comes first.
    merge.problems.sort(key=lambda each: each.path != main.source.path)
    return Linked(runbook=_runbook(main, merge.defs, imports), problems=merge.problems)


class _Merge:
    """Definitions of a file and of what it imports, by their names after the import."""

    def __init__(self, main: Unit) -> None:
        self.main = main
        self.defs: dict[str, dict[str, AnyDef]] = {kind: dict(main.defs[kind]) for kind in KINDS}
        self.names = {
            kind: {name for known, name in main.places if known == kind} for kind in KINDS
        }
        """Also of definitions that are broken: to name them is no second mistake."""
        self.problems: list[Problem] = list(main.problems)
        self._origin: dict[tuple[str, str], Import] = {}

    def note(self, problems: Iterable[Problem]) -> None:
        """Keep problems, each once."""
        for each in problems:
            if each not in self.problems and not has_enough(self.problems, warnings=each.warning):
                self.problems.append(each)

    def add(self, block: Import, unit: Unit, rename: Renames) -> None:
        """Add one file of a library."""
        self.note(unit.problems)
        for kind, name in unit.places:
            key = alias_of(block, name)
            if self._is_taken(kind, key, block):
                continue
            self._origin[kind, key] = block
            self.names[kind].add(key)
            made = unit.defs[kind].get(name)
            if made is not None:
                self.defs[kind][key] = _renamed(_with_help(made, unit), key, rename)

    def _is_taken(self, kind: str, key: str, block: Import) -> bool:
        """Whether a name is in use already; says so where that matters."""
        source = self.main.source
        other = self._origin.get((kind, key))
        if other is not None and other is not block:
            both = f'both import "{other.source}" and import "{block.source}"'
            message = f"{kind} `{key}` comes from {both}"
            hint = "give one of them an alias"
            self.note([problem(source, (block.start, block.end), message, hint)])
            return True
        if (kind, key) in self.main.places:
            message = f'{kind} `{key}` of import "{block.source}" is hidden by the one in this file'
            self.note([problem(source, self.main.places[kind, key], message, warning=True)])
            return True
        return False


Renames: TypeAlias = Mapping[str, Mapping[str, str]]
"""kind -> name in the library -> name after the import."""


def alias_of(block: Import, name: str) -> str:
    """The name that an imported definition has."""
    return f"{block.alias}:{name}" if block.alias else name


def _renames(imported: Imported) -> Renames:
    return {
        kind: {
            name: alias_of(imported.block, name)
            for unit in imported.units
            for known, name in unit.places
            if known == kind
        }
        for kind in KINDS
    }


def clashes(units: Sequence[Unit]) -> list[Problem]:
    """Definitions that two files have in common."""
    problems: list[Problem] = []
    first: dict[tuple[str, str], Unit] = {}
    for unit in units:
        for (kind, name), (start, end) in unit.places.items():
            other = first.setdefault((kind, name), unit)
            if other is not unit:
                message = (
                    f"{kind} `{name}` defined in both {other.source.path} and {unit.source.path}"
                )
                problems.append(problem(unit.source, (start, end), message))
    return problems


def _with_help(made: AnyDef, unit: Unit) -> AnyDef:
    if isinstance(made, CommandDef) and not made.help_short:
        return msgspec.structs.replace(made, help_short=unit.help_short, help_long=unit.help_long)
    return made


def _renamed(made: AnyDef, key: str, rename: Renames) -> AnyDef:
    """A definition under its name after the import, with the names it uses."""

    def run_of(made: CommandDef | CronDef) -> RunJob | RunAgent | None:
        if isinstance(made.run, RunJob):
            return RunJob(job=rename["job"].get(made.run.job, made.run.job))
        if isinstance(made.run, RunAgent):
            return msgspec.structs.replace(
                made.run, agent=rename["agent"].get(made.run.agent, made.run.agent)
            )
        return None

    if isinstance(made, (CommandDef, CronDef)):
        return msgspec.structs.replace(made, name=key, run=run_of(made) or made.run)
    if isinstance(made, JobDef):
        steps = tuple(
            msgspec.structs.replace(
                step, run=RunAgent(agent=rename["agent"].get(step.run.agent, step.run.agent))
            )
            if isinstance(step.run, RunAgent)
            else step
            for step in made.steps
        )
        return msgspec.structs.replace(made, name=key, steps=steps)
    if isinstance(made, WorkerDef):
        queue, job = (
            rename["queue"].get(made.queue, made.queue),
            rename["job"].get(made.job, made.job),
        )
        return msgspec.structs.replace(made, name=key, queue=queue, job=job)
    return msgspec.structs.replace(made, name=key)


def _follow(unit: Unit, rename: Renames, merge: _Merge) -> list[Problem]:
    """Names that lead nowhere, and jobs that are started without what they need."""
    problems: list[Problem] = []
    for ref in unit.refs:
        if len(problems) >= MAX_PROBLEMS:
            break
        key = rename.get(ref.kind, {}).get(ref.name, ref.name)
        if key not in merge.names[ref.kind]:
            message = f"{ref.where} references unknown {ref.kind} `{ref.name}`"
            hint = _other_name(ref.name, ref.kind, merge.names[ref.kind])
            problems.append(problem(unit.source, (ref.start, ref.end), message, hint))
    for supply in unit.supplies:
        job = merge.defs["job"].get(rename.get("job", {}).get(supply.job, supply.job))
        if not isinstance(job, JobDef):
            continue
        lacking = [
            name for name in job.vars if name not in job.defaults and name not in supply.names
        ]
        if lacking:
            what = ", ".join(f"`{name}`" for name in lacking)
            message = f"{supply.where} starts job `{supply.job}` but gives no value for {what}"
            hint = f"add it to `args` or `defaults` of {supply.where}, or to `defaults` of the job"
            if supply.where.startswith("cron."):
                hint = "a cron gives no values: add it to `defaults` of the job"
            problems.append(problem(unit.source, (supply.start, supply.end), message, hint))
    return problems


def _other_name(name: str, kind: str, known: set[str]) -> str:
    """What may have been meant by the name of a definition that does not exist."""
    aliased = [each for each in known if each.endswith(f":{name}")]
    if len(aliased) == 1:
        return f"did you mean `{aliased[0]}`?"
    return did_you_mean(name, sorted(known), f"available {kind}s") or f"no {kind} is defined here"


def _runbook(
    main: Unit, merged: Mapping[str, Mapping[str, AnyDef]], imports: Sequence[Imported]
) -> Runbook:
    return Runbook(
        path=main.source.path,
        commands={
            key: each for key, each in merged["command"].items() if isinstance(each, CommandDef)
        },
        jobs={key: each for key, each in merged["job"].items() if isinstance(each, JobDef)},
        agents={key: each for key, each in merged["agent"].items() if isinstance(each, AgentDef)},
        queues={key: each for key, each in merged["queue"].items() if isinstance(each, QueueDef)},
        workers={
            key: each for key, each in merged["worker"].items() if isinstance(each, WorkerDef)
        },
        crons={key: each for key, each in merged["cron"].items() if isinstance(each, CronDef)},
        imports=tuple(imported.block.source for imported in imports),
        help_short=main.help_short,
        help_long=main.help_long,
    )
