"""Reading the text of a project's runbooks and libraries.

Rule: the standard library only, because every `oj` command that needs definitions reads them with this file and ships the
text (system.md D1). Nothing here knows what a text means; the environment is passed in, never read.

Paths of texts: `.oj/runbooks/...` and `.oj/libraries/...` below the project root, `~/libraries/...` below the state folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RUNBOOKS: Final = ".oj/runbooks/"
LIBRARIES: Final = ".oj/libraries/"
USER_LIBRARIES: Final = "~/libraries/"
SUFFIXES: Final = (".hcl", ".toml", ".json")
MAX_FILE_BYTES: Final = 1_000_000
"""A runbook is written by hand; what is larger is something else."""
MAX_TOTAL_BYTES: Final = 8_000_000
"""All texts of a project together; they travel in one request."""
MAX_FILES: Final = 1_000
MAX_DEPTH: Final = 16
ENV_NAME: Final = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*):-")


@dataclass(frozen=True)
class Unreadable:
    """A file that was skipped before anyone looked at its text."""

    path: str
    reason: str


@dataclass(frozen=True)
class Sources:
    """The texts that define a project's runbooks, by path, in path order."""

    files: dict[str, str] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)


# The texts


def read(root: Path, state: Path | None = None) -> Sources:
    """Read every runbook and library file of a project, and the user's own libraries below the state folder."""
    found = Sources()
    budget = [MAX_TOTAL_BYTES]
    places = [
        (RUNBOOKS, root / ".oj" / "runbooks", SUFFIXES),
        (LIBRARIES, root / ".oj" / "libraries", (".hcl",)),
    ]
    if state is not None:
        places.append((USER_LIBRARIES, state / "libraries", (".hcl",)))
    for prefix, folder, suffixes in places:
        for path in _walk(folder, suffixes, found, prefix):
            _read_into(found, prefix + path.relative_to(folder).as_posix(), path, budget)
    return found


def read_file(path: Path, shown: str) -> Sources:
    """Read one file, wherever it is (`--runbook FILE`)."""
    found = Sources()
    _read_into(found, shown, path, [MAX_TOTAL_BYTES])
    return found


def _walk(folder: Path, suffixes: tuple[str, ...], found: Sources, prefix: str) -> Iterator[Path]:
    """Files with one of the suffixes, in path order; folders that begin with a dot are private."""
    hits: list[Path] = []

    def visit(here: Path, depth: int) -> None:
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as exc:
            where = prefix + here.relative_to(folder).as_posix()
            found.unreadable.append(Unreadable(where.removesuffix("/."), _reason(exc)))
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder and depth < MAX_DEPTH:
                visit(Path(entry.path), depth + 1)
            elif not is_folder and entry.name.endswith(suffixes):
                hits.append(Path(entry.path))

    visit(folder, 0)
    yield from sorted(hits, key=lambda path: path.relative_to(folder).as_posix())


def _read_into(found: Sources, shown: str, path: Path, budget: list[int]) -> None:
    def skip(reason: str) -> None:
        found.unreadable.append(Unreadable(shown, reason))

    if len(found.files) >= MAX_FILES:
        skip(f"there are more than {MAX_FILES} files; it was not read")
        return
    try:
        # A pipe or device would block for ever.
        if not path.is_file():
            skip("not a file" if path.exists() else "file not found")
            return
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        skip(_reason(exc))
        return
    if len(data) > MAX_FILE_BYTES:
        skip(f"larger than {MAX_FILE_BYTES // 1000} kB")
        return
    budget[0] -= len(data)
    if budget[0] < 0:
        skip(f"all files together are larger than {MAX_TOTAL_BYTES // 1000} kB; it was not read")
        return
    try:
        found.files[shown] = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - data.rfind(b"\n", 0, exc.start)
        skip(f"not UTF-8 text (byte 0x{data[exc.start]:02x} in line {line}, column {column})")


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()


def env_names(texts: Iterable[str]) -> set[str]:
    """Names of environment variables that texts read as `${NAME:-default}`."""
    return {found.group(1) for text in texts for found in ENV_NAME.finditer(text)}


def env_values(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """What the caller's environment says about those names; unset ones are absent (system.md D2)."""
    return {name: environ[name] for name in sorted(env_names(texts)) if name in environ}
