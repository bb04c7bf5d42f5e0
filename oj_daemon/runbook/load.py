"""Texts -> resolved runbooks: imports, libraries, lookup by name, and a cache by content.

Rule: a broken file never hides what other files define; it is skipped, and whoever looks for something that is not found is
told which files were skipped and why. Nothing here reads a project folder: texts come from sources.py, perhaps from
another machine. Only the built-in libraries are read from this package.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from oj_daemon.errors import OjError, Rejected, RunbookError
from oj_daemon.runbook import consts, validate
from oj_daemon.runbook import help as help_text
from oj_daemon.runbook.consts import Const
from oj_daemon.runbook.fold import BadShell, Compiler, Outline
from oj_daemon.runbook.model import (
    CommandDef,
    CronDef,
    JobDef,
    QueueDef,
    Runbook,
    Shell,
    Text,
    WorkerDef,
)
from oj_daemon.runbook.parse import broken, parse
from oj_daemon.runbook.sources import LIBRARIES, RUNBOOKS, USER_LIBRARIES
from oj_daemon.runbook.suggest import did_you_mean
from oj_daemon.runbook.tree import Problem, Source, SyntaxProblem, failure, normalise, problem
from oj_daemon.runbook.unit import KINDS, Import, Unit
from oj_daemon.runbook.validate import Imported, Linked

BUILT_IN: Final = "builtin:"
"""Path prefix of built-in libraries, in messages."""
CACHED_FILES: Final = 512
CACHED_CATALOGS: Final = 16

Definition = TypeVar("Definition", CommandDef, JobDef, QueueDef, WorkerDef, CronDef)
TABLES: Final = {
    "command": "commands",
    "job": "jobs",
    "agent": "agents",
    "queue": "queues",
    "worker": "workers",
    "cron": "crons",
}


class Checked:
    """Compiles shell text with the real thing, which is loaded when the first script is met."""

    def shell(self, text: str, known: Collection[str]) -> Shell:
        """Compile a script."""
        return _compile_shell(text, frozenset(known))

    def text(self, text: str, known: Collection[str]) -> Text:
        """Compile a template that may hold `$(...)`."""
        return _compile_text(text, frozenset(known))


@functools.lru_cache(maxsize=2048)
def _compile_shell(text: str, known: frozenset[str]) -> Shell:
    from oj_daemon.runbook import shell  # noqa: PLC0415  the bash grammar: 30 ms that listings need not pay

    try:
        return shell.compile_shell(text, known)
    except shell.ShellError as exc:
        raise BadShell(exc.message, exc.line, exc.column, exc.hint) from exc


@functools.lru_cache(maxsize=512)
def _compile_text(text: str, known: frozenset[str]) -> Text:
    from oj_daemon.runbook import shell  # noqa: PLC0415  as above

    try:
        return shell.compile_text(text, known)
    except shell.ShellError as exc:
        raise BadShell(exc.message, exc.line, exc.column, exc.hint) from exc


COMPILERS: Final[dict[bool, Compiler]] = {True: Checked(), False: Outline()}


@functools.lru_cache(maxsize=CACHED_FILES)
def _unit(path: str, text: str, values: tuple[tuple[str, str], ...], *, full: bool) -> Unit:
    """One file, read with these constants; `full` compiles its shell text as well."""
    text = normalise(text)
    constants = dict(values)
    try:
        source = (
            consts.prepare(path, text, constants) if path.endswith(".hcl") else Source(path, text)
        )
    except SyntaxProblem as exc:
        return broken(Source(path, text), exc.problem)
    return parse(source, COMPILERS[full], constants)


# Libraries


class Library(msgspec.Struct, frozen=True):
    """A library: the files of one folder."""

    name: str
    origin: str
    """project, user or built-in."""
    files: dict[str, str]

    def consts(self) -> tuple[dict[str, Const], list[Problem]]:
        """The constants that its files declare; files that disagree about one are a problem."""
        found: dict[str, Const] = {}
        where: dict[str, str] = {}
        problems: list[Problem] = []
        for path, text in self.files.items():
            source = Source(path, normalise(text))
            declared, _ = consts.declared(source)
            for name, const in declared.items():
                if found.setdefault(name, const) != const:
                    at = max(source.text.find(f'"{name}"'), 0)
                    message = f"conflicting const `{name}`: {where[name]} declares it otherwise"
                    problems.append(problem(source, (at, at + len(name) + 2), message))
                where.setdefault(name, path)
        return found, problems

    def units(self, values: Mapping[str, str], *, full: bool) -> list[Unit]:
        """Its files, read with these constants."""
        given = tuple(sorted(values.items()))
        units = [_unit(path, text, given, full=full) for path, text in self.files.items()]
        return [_without_imports(unit) for unit in units]


def _without_imports(unit: Unit) -> Unit:
    """Complain about imports, which libraries cannot have."""
    if not unit.imports:
        return unit
    message = "a library cannot import another library"
    hint = "the runbook that uses both imports both"
    found = [problem(unit.source, (each.start, each.end), message, hint) for each in unit.imports]
    return msgspec.structs.replace(unit, problems=[*unit.problems, *found])


@functools.lru_cache(maxsize=1)
def built_in() -> dict[str, Library]:
    """The libraries that come with oj."""
    folder = Path(__file__).parent / "library"
    files: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*.hcl")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        shown = BUILT_IN + relative.as_posix()
        files.setdefault(relative.parent.as_posix(), {})[shown] = path.read_text(encoding="utf-8")
    return {
        name: Library(name=name, origin="built-in", files=texts) for name, texts in files.items()
    }


def _libraries(files: Mapping[str, str]) -> dict[str, Library]:
    """Every library by name; those of the project beat those of the user, which beat the built-in ones."""
    found = dict(built_in())
    for prefix, origin in ((USER_LIBRARIES, "user"), (LIBRARIES, "project")):
        texts: dict[str, dict[str, str]] = {}
        for path in sorted(files):
            if path.startswith(prefix) and path.endswith(".hcl"):
                folder, _, file = path.removeprefix(prefix).rpartition("/")
                # A lone file right below the folder is a library of that name.
                texts.setdefault(folder or file.removesuffix(".hcl"), {})[path] = files[path]
        found |= {
            name: Library(name=name, origin=origin, files=each) for name, each in texts.items()
        }
    return found


class LibraryInfo(msgspec.Struct, frozen=True):
    """What `oj runbook search` and `info` show of a library."""

    name: str
    origin: str
    description: str
    help_short: str
    help_long: str
    consts: dict[str, Const]
    entities: dict[str, list[str]]
    """Kind (command, job, ...) -> names."""
    usage: str
    """An `import` block to start from."""
    problems: list[Problem]


def describe_library(library: Library) -> LibraryInfo:
    """Everything there is to say about a library, read with its defaults."""
    linked, declared = check_library(library)
    units = library.units(_stand_ins(declared), full=False)
    head = next((unit for unit in units if unit.help_short), units[0] if units else None)
    short, long = (head.help_short, head.help_long) if head is not None else ("", "")
    lines = [f'import "{library.name}" {{', f'  alias = "{library.name.rpartition("/")[2]}"']
    for const in declared.values():
        comment = "" if const.default is None else "  # optional"
        value = (
            "..."
            if const.default is None
            else const.default.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        )
        lines.append(f'  const "{const.name}" {{ value = "{value}" }}{comment}')
    return LibraryInfo(
        name=library.name,
        origin=library.origin,
        description=help_text.describe(short),
        help_short=short,
        help_long=long,
        consts=declared,
        entities={
            kind: sorted({name for unit in units for known, name in unit.places if known == kind})
            for kind in KINDS
        },
        usage="\n".join([*lines, "}"]),
        problems=linked.problems,
    )


def check_library(library: Library) -> tuple[Linked, dict[str, Const]]:
    """Judge a library on its own: required constants get their own name as a value."""
    declared, problems = library.consts()
    units = library.units(_stand_ins(declared), full=True)
    main = Unit(source=Source(library.name, ""), problems=list(problems))
    linked = validate.link(main, [Imported(block=Import(source=library.name), units=units)])
    return linked, declared


def _stand_ins(declared: Mapping[str, Const]) -> dict[str, str]:
    return {
        name: name if const.default is None else const.default for name, const in declared.items()
    }


# One file


def _link(path: str, text: str, libraries: Mapping[str, Library], *, full: bool) -> Linked:
    """One file with its imports merged."""
    own, _ = consts.declared(Source(path, normalise(text))) if path.endswith(".hcl") else ({}, [])
    defaults = {name: const.default for name, const in own.items() if const.default is not None}
    unit = _unit(path, text, tuple(sorted(defaults.items())), full=full)
    found: list[Problem] = []
    imported: list[Imported] = []
    is_complete = True
    for block in unit.imports:
        library = libraries.get(block.source)
        if library is None:
            is_complete = False
            message = f"unknown library `{block.source}`"
            hint = did_you_mean(block.source, sorted(libraries), "libraries")
            found.append(problem(unit.source, (block.start, block.end), message, hint))
            continue
        values, wrong = _constants(unit, block, library)
        units = library.units(values, full=full)
        if wrong:
            found += wrong
            units = [msgspec.structs.replace(each, problems=[]) for each in units]
        imported.append(Imported(block=block, units=units))
    unit = msgspec.structs.replace(unit, problems=[*unit.problems, *found])
    linked = validate.link(unit, imported)
    if not is_complete:
        linked.problems = (
            unit.problems
        )  # what the missing library defines would all be called unknown
    return linked


def _constants(unit: Unit, block: Import, library: Library) -> tuple[dict[str, str], list[Problem]]:
    """The values of a library's constants for one import."""
    declared, problems = library.consts()
    for name, (start, end) in block.places.items():
        if name not in declared:
            message = f"library `{block.source}` has no const `{name}`"
            hint = did_you_mean(name, declared, "its consts") or "it has none"
            problems.append(problem(unit.source, (start, end), message, hint))
    values: dict[str, str] = {}
    for name, const in declared.items():
        given = block.consts.get(name, const.default)
        if given is None:
            message = f'import "{block.source}" lacks required const `{name}`'
            hint = f'add const "{name}" {{ value = "..." }}'
            problems.append(problem(unit.source, (block.start, block.end), message, hint))
        values[name] = name if given is None else given
    return values, problems


# All files of a project


class Skipped(msgspec.Struct, frozen=True):
    """A file that cannot be used."""

    path: str
    reason: str
    """Every problem as a person sees it."""


class Found(msgspec.Struct, Generic[Definition], frozen=True):
    """A definition and the runbook it stands in, inside which everything it names is looked up."""

    runbook: Runbook
    definition: Definition


class Catalog:
    """Everything that a set of texts defines. Shell text is compiled only of files whose content is asked for."""

    def __init__(
        self, files: Mapping[str, str], unreadable: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.libraries = _libraries(files)
        self._texts = {
            path: files[path]
            for path in sorted(files)
            if not path.startswith((LIBRARIES, USER_LIBRARIES))
        }
        self._unreadable = [
            Skipped(path, f"{path}: cannot read: {reason}") for path, reason in unreadable
        ]
        self._linked: dict[tuple[str, bool], Linked] = {}

    def linked(self, path: str, *, full: bool = True) -> Linked:
        """One file with all that is wrong with it."""
        key = (path, full)
        if key not in self._linked:
            self._linked[key] = _link(path, self._texts[path], self.libraries, full=full)
        return self._linked[key]

    @property
    def paths(self) -> list[str]:
        """The runbook files, broken ones included."""
        return [path for path in self._texts if path.startswith(RUNBOOKS)]

    @property
    def runbooks(self) -> list[Runbook]:
        """Every usable file."""
        return [self.linked(path).runbook for path in self.paths if not self.linked(path).errors]

    @property
    def skipped(self) -> list[Skipped]:
        """Every file that cannot be used."""
        return [*self._unreadable, *self._skipped(self.paths, full=True)]

    @property
    def warnings(self) -> list[Problem]:
        """What is odd in usable files."""
        return [
            each
            for path in self.paths
            if not self.linked(path).errors
            for each in self.linked(path).problems
        ]

    def _skipped(self, paths: Iterable[str], *, full: bool) -> Iterator[Skipped]:
        for path in paths:
            errors = self.linked(path, full=full).errors
            if errors:
                yield Skipped(path, "\n".join(each.render() for each in errors))

    # Lookup

    def find_command(
        self, name: str, file: str | None = None, *, full: bool = True
    ) -> Found[CommandDef]:
        """The command of a name; raises Rejected or RunbookError. Without `full` no shell text is compiled."""
        runbook, key = self._find("command", name, file, full=full)
        return Found(runbook, runbook.commands[key])

    def find_queue(self, name: str, file: str | None = None) -> Found[QueueDef]:
        """The queue of a name; raises Rejected or RunbookError."""
        runbook, key = self._find("queue", name, file)
        return Found(runbook, runbook.queues[key])

    def find_worker(self, name: str, file: str | None = None) -> Found[WorkerDef]:
        """The worker of a name; raises Rejected or RunbookError."""
        runbook, key = self._find("worker", name, file)
        return Found(runbook, runbook.workers[key])

    def find_cron(self, name: str, file: str | None = None) -> Found[CronDef]:
        """The cron of a name; raises Rejected or RunbookError."""
        runbook, key = self._find("cron", name, file)
        return Found(runbook, runbook.crons[key])

    def _find(
        self, kind: str, name: str, file: str | None, *, full: bool = True
    ) -> tuple[Runbook, str]:
        paths = self.paths if file is None else [self._path_of(file)]
        usable = [path for path in paths if not self.linked(path, full=False).errors]
        tables = {
            path: getattr(self.linked(path, full=False).runbook, TABLES[kind]) for path in usable
        }
        hits = [(path, name) for path in usable if name in tables[path]]
        if not hits:
            endings = {
                path: [key for key in tables[path] if key.endswith(f":{name}")] for path in usable
            }
            hits = [(path, keys[0]) for path, keys in endings.items() if len(keys) == 1]
            unclear = sorted({key for keys in endings.values() if len(keys) > 1 for key in keys})
            if not hits and unclear:
                what = ", ".join(f"`{key}`" for key in unclear)
                raise Rejected(
                    f"{kind} `{name}` is ambiguous: {what}",
                    code="ambiguous",
                    hint="give the full name",
                )
        if len(hits) > 1:
            where = ", ".join(path for path, _ in hits)
            hint = f"say which one: --runbook {hits[0][0]}"
            raise Rejected(
                f"{kind} `{name}` is defined in several runbooks: {where}",
                code="ambiguous",
                hint=hint,
            )
        if not hits:
            raise self._not_found(
                kind, name, paths, sorted({key for table in tables.values() for key in table})
            )
        path, key = hits[0]
        linked = self.linked(path, full=full)
        if linked.errors:
            raise self._unusable(kind, name, list(self._skipped([path], full=True)))
        return linked.runbook, key

    def _path_of(self, file: str) -> str:
        """The text that `--runbook FILE` names."""
        wanted = file.replace("\\", "/").removeprefix("./")
        for path in (
            wanted,
            RUNBOOKS + wanted,
            *(RUNBOOKS + wanted + suffix for suffix in (".hcl", ".toml", ".json")),
        ):
            if path in self._texts:
                return path
        ends = [path for path in self._texts if wanted.endswith(f"/{path}")]
        if len(ends) == 1:
            return ends[0]
        for skipped in self._unreadable:
            if skipped.path in (wanted, RUNBOOKS + wanted):
                raise RunbookError(skipped.reason, code="invalid")
        hint = did_you_mean(wanted, self.paths, "runbooks")
        raise Rejected(
            f"no runbook file `{file}`",
            code="not_found",
            hint=hint or "oj runbook list shows what there is",
        )

    def _not_found(self, kind: str, name: str, paths: list[str], known: list[str]) -> OjError:
        skipped = [*self._unreadable, *self._skipped(paths, full=False)]
        owners = [
            each
            for each in skipped
            if each.path in self._texts and (kind, name) in self._places(each.path)
        ]
        if owners:
            return self._unusable(kind, name, owners)
        message = f"unknown {kind} `{name}`"
        if skipped:
            count = "1 runbook was" if len(skipped) == 1 else f"{len(skipped)} runbooks were"
            reasons = "\n".join(each.reason for each in skipped)
            message += f"\n{count} skipped due to errors:\n{reasons}"
        hint = did_you_mean(name, known, f"{kind}s here")
        if not known:
            hint = f"no {kind} is defined in {RUNBOOKS}" + (
                "; oj init writes a first runbook" if kind == "command" else ""
            )
        return Rejected(message, code="not_found", hint=hint)

    def _places(self, path: str) -> Collection[tuple[str, str]]:
        return _unit(path, self._texts[path], (), full=False).places

    def _unusable(self, kind: str, name: str, skipped: list[Skipped]) -> RunbookError:
        reasons = "\n".join(each.reason for each in skipped)
        where = ", ".join(each.path for each in skipped)
        message = f"{kind} `{name}` is in {where}, which was skipped due to errors:\n{reasons}"
        return RunbookError(
            message, code="invalid", hint="correct the file; oj runbook check shows all problems"
        )

    # For `oj runbook` and `oj run` without a name

    def outlines(self) -> list[Runbook]:
        """Every file without structural errors; shell text is not compiled, so this is for listings only."""
        found = (self.linked(path, full=False) for path in self.paths)
        return [each.runbook for each in found if not each.errors]

    @property
    def skipped_outlines(self) -> list[Skipped]:
        """The files that `outlines` leaves out."""
        return [*self._unreadable, *self._skipped(self.paths, full=False)]

    def check(self) -> list[Problem]:
        """Everything wrong with all files and the project's own libraries."""
        problems: list[Problem] = []
        for path in self.paths:
            problems += [each for each in self.linked(path).problems if each not in problems]
        units = [_unit(path, self._texts[path], (), full=False) for path in self.paths]
        problems += validate.clashes(units)
        for library in self.libraries.values():
            if library.origin == "project":
                linked, _ = check_library(library)
                problems += [each for each in linked.problems if each not in problems]
        return problems

    def library(self, name: str) -> LibraryInfo:
        """One library; raises Rejected."""
        if name not in self.libraries:
            hint = did_you_mean(name, sorted(self.libraries), "libraries")
            raise Rejected(
                f"unknown library `{name}`",
                code="not_found",
                hint=hint or "oj runbook search lists them",
            )
        return describe_library(self.libraries[name])

    def search(self, query: str = "") -> list[LibraryInfo]:
        """Libraries whose name or description holds a text."""
        wanted = query.lower()
        found = (describe_library(self.libraries[name]) for name in sorted(self.libraries))
        return [
            each
            for each in found
            if wanted in each.name.lower() or wanted in each.help_short.lower()
        ]


_catalogs: dict[str, Catalog] = {}
_lock = threading.Lock()
"""The daemon loads runbooks in threads."""


def catalog(files: Mapping[str, str], unreadable: Iterable[tuple[str, str]] = ()) -> Catalog:
    """The catalog of these texts (path -> text); the same texts give the same catalog."""
    skipped = list(unreadable)
    digest = hashlib.sha256()
    for path in sorted(files):
        for part in (path, files[path]):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
    digest.update(repr(skipped).encode("utf-8", "backslashreplace"))
    key = digest.hexdigest()
    with _lock:
        found = _catalogs.pop(key, None) or Catalog(files, skipped)
        _catalogs[key] = found  # youngest last
        while len(_catalogs) > CACHED_CATALOGS:
            del _catalogs[next(iter(_catalogs))]
    return found


def load_text(path: str, text: str, files: Mapping[str, str] | None = None) -> Linked:
    """One text as a runbook, with the libraries among `files` (path -> text): its definitions and all its problems."""
    return _link(path, text, _libraries(files or {}), full=True)


def runbook(path: str, text: str, files: Mapping[str, str] | None = None) -> Runbook:
    """One text as a runbook; raises RunbookError with every problem."""
    linked = load_text(path, text, files)
    if linked.errors:
        raise failure(linked.errors)
    return linked.runbook
