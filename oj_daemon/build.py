"""Which build of `oj` this is: its version and the git commit that it was made from.

Rule: standard library only and cheap, for `oj --version` and every greeting between client and daemon ask here; git is
never run, and an unreadable repository means "unknown", not an error. `hatch_build.py` loads this file by its path.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

HASH_LENGTH: Final = 12
UNKNOWN: Final = "unknown"
SYMBOLIC_DEPTH: Final = 5
"""How many references may point at each other; git itself stops there."""


def identity() -> str:
    """Version and commit in one word, such as `0.1.0+3f9c2ab41d07` or `0.1.0+unknown`."""
    from oj_daemon import __version__  # noqa: PLC0415 - the build hook loads this file before the package exists

    return f"{__version__}+{build_hash()}"


@functools.cache
def build_hash() -> str:
    """The commit as it was at the first call: built in, else read from the checkout that this file is in."""
    try:
        from oj_daemon import _build  # type: ignore[attr-defined,unused-ignore] # noqa: PLC0415 - made at build time
    except ImportError:
        return read_git_hash(Path(__file__).resolve().parent.parent) or UNKNOWN
    return str(_build.GIT_HASH)


def read_git_hash(root: Path) -> str | None:
    """The short hash of HEAD in the checkout at `root`: branch, packed, detached or linked worktree."""
    try:
        git_dir = _git_dir(root)
        full = git_dir and _resolve(git_dir, (git_dir / "HEAD").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return full[:HASH_LENGTH] if full else None


def is_hash(text: str) -> bool:
    """True for 7 to 64 lower-case hexadecimal digits."""
    return 7 <= len(text) <= 64 and not set(text) - set("0123456789abcdef")


def _git_dir(root: Path) -> Path | None:
    dot_git = root / ".git"
    if dot_git.is_dir():
        return dot_git
    if not dot_git.is_file():
        return None
    # A linked worktree or a submodule: one line that says where the real folder is.
    keyword, _, target = dot_git.read_text("utf-8").partition(":")
    return root / target.strip() if keyword == "gitdir" else None


def _resolve(git_dir: Path, text: str) -> str | None:
    common = git_dir
    if (git_dir / "commondir").is_file():
        common = git_dir / (git_dir / "commondir").read_text("utf-8").strip()
    for _ in range(SYMBOLIC_DEPTH):
        value = text.strip()
        if is_hash(value):
            return value
        if not value.startswith("ref:"):
            return None
        name = value.removeprefix("ref:").strip()
        loose = next((path for path in (git_dir / name, common / name) if path.is_file()), None)
        if loose is None:
            return _packed(common, name)
        text = loose.read_text("utf-8")
    return None


def _packed(common: Path, name: str) -> str | None:
    with (common / "packed-refs").open(encoding="utf-8") as lines:
        for line in lines:
            full, _, reference = line.rstrip("\n").partition(" ")
            if reference == name and is_hash(full):
                return full
    return None
