"""Workspaces on disk: plain folders, and git worktrees on a branch of the user's repository.

Rule: nothing committed is lost. A branch goes with its worktree only when we made up its name and every commit on it
is reachable from somewhere else; commits on a detached head get a branch. Every function may be called again
after a crash at any point, and only touches what lies below the workspaces root.

git is called as a program, with arguments as lists and without the variables that would point it elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from oj_daemon.errors import AdapterError

# ruff: noqa: ASYNC240 - single looks at the disk; what walks through folders goes to a thread

SECONDS: Final = 60.0
"""Limit of one git command; a checkout of a large repository takes long."""
BUSY_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between attempts while another git works on the same repository."""
INITIALIZING_SECONDS: Final = 10.0
"""How long to wait for a git that an earlier daemon started and that may still be at work."""

# `env -u`, because this process's own environment is for settings.py to read.
_CLEAN: Final = [
    "env",
    *(
        f"-u{name}"
        for name in (
            *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"),
            *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"),
            *("GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "LANGUAGE"),
        )
    ),
    *(
        "GIT_TERMINAL_PROMPT=0",
        "LC_ALL=C",
        "git",
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
    ),
]

_BUSY: Final = re.compile(
    r"could not lock|[Uu]nable to create '[^']*\.lock'|cannot lock ref"
    r"|(failed|unable) to read [^\n]*worktrees/|could not open '?[^\n]*worktrees/"
)


class _Worktree(msgspec.Struct, frozen=True):
    path: str
    head: str
    branch: str
    """Full name of the ref; empty when detached."""
    locked: str | None
    """Why; None when it is not locked."""


# -- worktrees ----------------------------------------------------------------------------------------------------


async def create_worktree(
    repo: Path, path: Path, *, branch: str, ref: str = "HEAD", root: Path | None = None
) -> str:
    """Check out a branch in a worktree of its own, made from `ref` if it is new; the commit the branch started from.

    An existing branch is continued when it contains `ref` and is checked out nowhere else.
    """
    if root is not None:
        _require_inside(path, root)
    return await _patiently(lambda: _create(repo, path, branch, ref))


async def _create(repo: Path, path: Path, branch: str, ref: str) -> str:
    attempt = f"make a worktree of {repo} on branch {branch}"
    _refuse_dash("branch", branch)
    _refuse_dash("ref", ref)
    if not repo.is_dir():
        raise AdapterError(f"{attempt}: there is no folder {repo}", code="repo")
    base = await _ask(repo, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if base is None:
        await _git(
            attempt, repo, "rev-parse", "--git-dir"
        )  # says so when it is no repository at all
        raise AdapterError(
            f"{attempt}: there is no commit '{ref}'",
            code="ref",
            hint=f"check `ref` in the runbook's source block; git -C {repo} log --oneline -3 '{ref}'",
        )
    tip = await _ask(repo, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    if await _is_ready(attempt, repo, path, branch):
        return await _ask(repo, "merge-base", base, tip or base) or base
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise AdapterError(
            f"{attempt}: there is something else at {path}",
            code="conflict",
            hint=f"move {path} away",
        )
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    if tip is None:
        target = ["--no-track", "-b", branch, str(path), base]
    else:
        if await _ask(repo, "merge-base", "--is-ancestor", base, tip) is None:
            raise AdapterError(
                f"{attempt}: the branch exists and does not contain '{ref}'",
                code="conflict",
                hint=f"git -C {repo} branch -D {branch}, or another `branch` in the runbook's source block",
            )
        target = [str(path), branch]
    await _git(attempt, repo, "worktree", "add", *target)
    return base


async def remove_worktree(  # noqa: PLR0913 - what the fact of its making recorded
    repo: Path, path: Path, *, branch: str, root: Path, base: str = "", own_branch: bool = False
) -> str:
    """Remove a worktree, and its branch if that holds nothing; says what was kept and why, empty when nothing was.

    Works on what is left when the folder, the branch or the whole repository is gone.
    """
    _require_inside(path, root)
    return await _patiently(lambda: _remove(repo, path, branch, base, own_branch=own_branch))


async def _remove(repo: Path, path: Path, branch: str, base: str, *, own_branch: bool) -> str:
    has_repo = repo.is_dir() and await _ask(repo, "rev-parse", "--git-dir") is not None
    if not has_repo and (repo / ".git").exists():
        # It is there, and git is missing or refuses it: without git, commits on a detached head could not be kept.
        await _git(f"remove the worktree {path}", repo, "rev-parse", "--git-dir")
    notes: list[str] = []
    if has_repo:
        notes += await _rescue_detached(repo, path, branch)
    await asyncio.to_thread(_remove_tree, path)
    if not has_repo:
        return f"the repository {repo} is gone"
    if await _find(f"list the worktrees of {repo}", repo, path) is not None:
        # Its folder is gone by now: this drops the registration, also of a locked one.
        attempt = f"unregister the worktree {path}"
        await _git(attempt, repo, "worktree", "remove", "--force", "--force", str(path))
    notes += await _drop_branch(repo, branch, base=base, own_branch=own_branch)
    return "; ".join(notes)


async def _patiently(work: Callable[[], Awaitable[str]]) -> str:
    """Do it again from the start while another git is in the way.

    git reads every worktree of a repository for most of this, and fails on one that is just being made.
    """
    for pause in BUSY_PAUSES:
        try:
            return await work()
        except AdapterError as error:
            if error.code != "busy":
                raise
            await asyncio.sleep(pause)
    return await work()


async def _is_ready(attempt: str, repo: Path, path: Path, branch: str) -> bool:
    """Whether the worktree is there already; clears away what an interrupted attempt left."""
    found = await _find(attempt, repo, path)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(INITIALIZING_SECONDS):
            while found is not None and found.locked == "initializing":
                await asyncio.sleep(0.1)
                found = await _find(attempt, repo, path)
    if found is None:
        return False
    is_whole = found.locked != "initializing" and (path / ".git").is_file()
    if is_whole and found.branch == f"refs/heads/{branch}":
        return True
    if is_whole:
        name = found.branch.removeprefix("refs/heads/") or "no branch"
        raise AdapterError(f"{attempt}: {path} is a worktree on {name} already", code="conflict")
    if found.locked == "initializing":
        await asyncio.to_thread(_remove_tree, path)
    await _git(attempt, repo, "worktree", "remove", "--force", "--force", str(path))
    return False


async def _find(attempt: str, repo: Path, path: Path) -> _Worktree | None:
    """The repository's registration of a worktree at that path."""
    listing = await _git(attempt, repo, "worktree", "list", "--porcelain")
    wanted = {str(path), os.path.realpath(path.parent) + os.sep + path.name}
    for block in listing.split("\n\n"):
        fields = dict(line.partition(" ")[::2] for line in block.splitlines())
        if fields.get("worktree") in wanted:
            return _Worktree(
                path=fields["worktree"],
                head=fields.get("HEAD", ""),
                branch=fields.get("branch", ""),
                locked=fields.get("locked"),
            )
    return None


async def _rescue_detached(repo: Path, path: Path, branch: str) -> list[str]:
    """Give commits that only the worktree's detached head holds a branch."""
    found = await _find(f"list the worktrees of {repo}", repo, path)
    if found is None or found.branch or not found.head or set(found.head) == {"0"}:
        return []
    if not await _has_own_commits(repo, found.head):
        return []
    name = f"{branch}-detached-{found.head[:8]}"
    attempt = f"keep the commits of {path}"
    await _git(attempt, repo, "branch", "--no-track", "--force", "--", name, found.head)
    return [f"commits outside of any branch were kept as branch {name}"]


async def _drop_branch(repo: Path, branch: str, *, base: str, own_branch: bool) -> list[str]:
    ref = f"refs/heads/{branch}"
    if not branch or await _ask(repo, "rev-parse", "--verify", "--quiet", ref) is None:
        return []
    if await _has_own_commits(repo, ref, base):
        return [f"branch {branch} was kept: it has commits that are nowhere else"]
    if not own_branch:
        return []  # the runbook asked for a branch of that name
    attempt = f"delete the branch {branch}"
    try:
        await _git(attempt, repo, "branch", "--delete", "--force", "--", branch)
    except AdapterError as error:
        if error.code == "busy":
            raise
        # Someone has it checked out elsewhere.
        return [f"branch {branch} was kept: {error.message}"]
    return []


async def _has_own_commits(repo: Path, start: str, base: str = "") -> bool:
    """Whether a branch or commit has commits that no other branch, tag or remote reaches; yes when git cannot tell."""
    known = (
        base
        if base and await _ask(repo, "cat-file", "-e", f"{base}^{{commit}}") is not None
        else ""
    )
    others = ["--exclude", start.removeprefix("refs/heads/"), "--branches", "--tags", "--remotes"]
    found = await _ask(
        repo, "rev-list", "--max-count=1", start, "--not", *filter(None, [known]), *others
    )
    return found != ""


# -- folders ------------------------------------------------------------------------------------------------------


def create_folder(path: Path, *, root: Path) -> None:
    """Make an empty workspace; one that is there already is fine."""
    _require_inside(path, root)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AdapterError(f"make the workspace {path}: {error.strerror}", code="folder") from error
    if path.is_symlink():
        raise AdapterError(f"make the workspace {path}: it is a symbolic link", code="conflict")


def remove_folder(path: Path, *, root: Path) -> None:
    """Remove a workspace and all it holds; links are removed, never followed."""
    _require_inside(path, root)
    _remove_tree(path)


def _require_inside(path: Path, root: Path) -> None:
    is_plain = path.is_absolute() and ".." not in path.parts and path != root
    inside = is_plain and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root))
    if not inside:
        raise AdapterError(f"touch {path}: it is not below {root}", code="outside")


def _remove_tree(path: Path) -> None:
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
            return
        with contextlib.suppress(PermissionError):
            _rmtree(path)
            return
        # Folders without write permission, as some package caches are.
        for folder, names, _ in os.walk(path):
            for name in [".", *names]:
                inner = Path(folder, name)
                if not inner.is_symlink():
                    inner.chmod(stat.S_IMODE(inner.stat().st_mode) | stat.S_IRWXU)
        _rmtree(path)
    except OSError as error:
        raise AdapterError(
            f"remove {path}: {error.strerror}: {error.filename}",
            code="folder",
            hint=f"rm -rf {path}",
        ) from error


def _rmtree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


# -- git ----------------------------------------------------------------------------------------------------------


async def _git(attempt: str, repo: Path, *words: str) -> str:
    """Output of a git command that has to work."""
    code, output, errors = await _run(attempt, repo, words)
    if code != 0:
        lines = [line for line in errors.splitlines() if line.strip()]
        # git's advice fills screens; what went wrong has a mark.
        marked = [line for line in lines if line.startswith(("fatal: ", "error: "))] or lines
        reason = " / ".join(
            line.removeprefix("fatal: ").removeprefix("error: ") for line in marked[-3:]
        )
        raise AdapterError(
            f"{attempt}: {reason or f'git ended with {code}'}",
            code="busy" if _BUSY.search(errors) else "git",
            hint=_hint(errors),
        )
    return output


async def _ask(repo: Path, *words: str) -> str | None:
    """Output of a git command that may say no."""
    code, output, _ = await _run(f"ask git {words[0]} in {repo}", repo, words)
    return output.strip() if code == 0 else None


async def _run(attempt: str, repo: Path, words: Sequence[str]) -> tuple[int, str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *_CLEAN,
            *("-C", str(repo)),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A group of its own, so that a time-out also ends the ssh or filter that git waits for.
            start_new_session=True,
        )
    except ValueError as error:  # NUL in a name
        raise AdapterError(f"{attempt}: {error}", code="invalid") from error
    except OSError as error:
        raise AdapterError(f"{attempt}: {error.strerror}", code="git") from error
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        raise AdapterError(
            f"{attempt}: git {words[0]} took longer than {SECONDS:g} s",
            code="timeout",
            hint="a hook or filter may hang",
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


def _hint(errors: str) -> str:
    if "dubious ownership" in errors:
        return "the repository belongs to another user: git config --global --add safe.directory FOLDER"
    if "No such file or directory" in errors and "git" in errors and "env:" in errors:
        return "install git"
    if "already checked out" in errors or "already used by worktree" in errors:
        return "another checkout has that branch: choose another `branch` in the runbook's source block"
    if "not a git repository" in errors:
        return "a source block with `git` needs a repository: git init, or drop the block"
    return ""


def _refuse_dash(what: str, value: str) -> None:
    if not value or value.startswith("-"):
        raise AdapterError(
            f"'{value}' cannot be a {what}",
            code="invalid",
            hint=f"check `{what}` in the source block",
        )
