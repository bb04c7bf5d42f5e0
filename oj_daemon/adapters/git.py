"""Workspaces on disk: plain folders, git worktrees on a branch of the user's repository, and clones of its URL.

Rule: nothing committed is lost. A branch goes with its worktree only when we made up its name and every commit on it
is reachable from somewhere else; commits on a detached head get a branch; a clone stays as long as it holds anything that its
remote does not have. Every function may be called again after a crash at any point, and only touches what lies below the
workspaces root. Nothing asks for a password: what a clone may see is what the daemon's own git may see.

git is called as a program, with arguments as lists and without the variables that would point it elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from oj_daemon import processes
from oj_daemon.errors import AdapterError
from oj_daemon.settings import DAEMON_NAMES

# ruff: noqa: ASYNC240 - single looks at the disk; what walks through folders goes to a thread

SECONDS: Final = 60.0
"""Limit of one git command; a checkout of a large repository takes long."""
CLONE_SECONDS: Final = 600.0
"""The same for a clone, which comes over the network whole."""
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
            # The configuration that a job leaves in its repository can name programs for git to run.
            *sorted(DAEMON_NAMES),
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


_REMOTE_NAMES: Final = (
    "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_SSL_.*", "GIT_HTTP_.*",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "KRB5CCNAME", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME",
)  # fmt: skip
"""Names, as patterns, that say how git reaches a remote and where it finds its credentials."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABSENT: Final = re.compile(r"Remote branch (\S+) not found in upstream")
_ADVICE: Final = re.compile(
    r"Cloning into |warning: |hint: |Please make sure you have|and the repository exists"
)
_REFUSED: Final = re.compile(
    r"terminal prompts disabled|could not read (Username|Password)|Authentication failed|Permission denied"
)
_SECRET: Final = re.compile(r"//[^/@\s]+@")


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


# -- clones -------------------------------------------------------------------------------------------------------


class Clone(msgspec.Struct, frozen=True):
    """What came of making a clone."""

    base: str
    """Commit that the work starts from."""
    notes: tuple[str, ...] = ()
    """What is not as the caller may think."""


def remote_environ(inherited: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a git that talks to a remote: `base`, and how this machine's git proves who it is."""
    wanted = re.compile("|".join(_REMOTE_NAMES))
    named = {name: value for name, value in inherited.items() if wanted.fullmatch(name)}
    return {**base, **named, "SSH_ASKPASS_REQUIRE": "never"}


async def create_clone(  # noqa: PLR0913 - what the fact of its making recorded
    url: str,
    path: Path,
    *,
    start: str,
    head: str = "",
    folder: str = "",
    branch: str = "",
    ref: str = "",
    all_branches: bool = False,
    root: Path,
    environ: Mapping[str, str],
) -> Clone:
    """Clone a repository at the branch `start`; then, where a branch is named, check that out, made from `ref` if it is new.

    A caller without a branch gets the commit `head`. A branch that the remote has is continued when it contains `ref`.
    """
    _require_inside(path, root)
    attempt = f"clone {url}"
    if not url or url.startswith("-"):
        raise AdapterError(f"{attempt}: '{url}' cannot be a URL", code="invalid")
    for what, value in (("branch", start), ("branch", branch), ("ref", ref)):
        if value:
            _refuse_dash(what, value)
    head = head if _COMMIT.fullmatch(head) else ""
    if await asyncio.to_thread((path / ".git").is_dir):
        return await _settle(attempt, path, branch, ref)
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise AdapterError(
            f"{attempt}: there is something else at {path}",
            code="conflict",
            hint=f"move {path} away",
        )
    await asyncio.to_thread(_remove_unfinished, path)
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    # Under another name until it is whole: what is at `path` is never half a clone.
    fresh = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    which = ["--branch", start] if start else []
    if start and not all_branches:
        which.append("--single-branch")
    cookies = f"{environ.get(processes.COOKIE, '')} {_cookie(path)}".strip()
    environ = {**environ, processes.COOKIE: cookies}
    await _fetch(
        attempt,
        path.parent,
        "clone",
        "--origin",
        "origin",
        *which,
        "--",
        url,
        str(fresh),
        environ=environ,
    )
    notes = await _compare(attempt, fresh, start, head)
    made = await _settle(attempt, fresh, branch, ref)
    if folder and not (fresh / folder).is_dir():
        notes.append(f"the folder {folder}, where oj was called, is not in the clone")
    await asyncio.to_thread(fresh.rename, path)
    return Clone(made.base, (*notes, *made.notes))


async def _compare(attempt: str, path: Path, start: str, head: str) -> list[str]:
    """What the caller has to know about the commit that was cloned; without a branch, the caller's own is checked out."""
    here = await _ask(path, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if here is None:
        raise AdapterError(
            f"{attempt}: it has no commits", code="ref", hint="git push -u origin HEAD"
        )
    if not head or head == here:
        return []
    is_known = await _ask(path, "cat-file", "-e", f"{head}^{{commit}}") is not None
    if not start:
        if not is_known:
            raise AdapterError(
                f"{attempt}: your commit {head[:7]} is on none of its branches",
                code="ref",
                hint="git push it to a branch",
            )
        await _git(attempt, path, "checkout", "--quiet", "--detach", head)
        return []
    if is_known and await _ask(path, "merge-base", "--is-ancestor", head, here) is not None:
        return [f"{start} has gone on since your commit {head[:7]}: the job works on {here[:7]}"]
    return [f"your commit {head[:7]} is not pushed: the job works on {here[:7]}"]


async def _settle(attempt: str, path: Path, branch: str, ref: str) -> Clone:
    """Check out the branch that the job is to have, if any."""
    base = await _commit(path, ref or "HEAD")
    if base is None:
        raise AdapterError(
            f"{attempt}: there is no commit '{ref}'",
            code="ref",
            hint="check `ref` in the runbook's source block; what it names has to be pushed",
        )
    current = await _ask(path, "symbolic-ref", "--quiet", "--short", "HEAD")
    if not branch:
        return Clone(base)
    own = await _ask(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    theirs = f"refs/remotes/origin/{branch}"
    tip = own or await _ask(path, "rev-parse", "--verify", "--quiet", f"{theirs}^{{commit}}")
    if tip is None:
        await _git(attempt, path, "checkout", "--quiet", "--no-track", "-b", branch, base)
        return Clone(base)
    if current != branch and await _ask(path, "merge-base", "--is-ancestor", base, tip) is None:
        raise AdapterError(
            f"{attempt}: its branch {branch} does not contain '{ref or 'HEAD'}'",
            code="conflict",
            hint="another `branch` in the runbook's source block, or git push --delete origin "
            + branch,
        )
    if own is None:
        await _git(attempt, path, "checkout", "--quiet", "--track", "-b", branch, theirs)
    elif current != branch:
        await _git(attempt, path, "checkout", "--quiet", branch)
    return Clone(await _ask(path, "merge-base", base, tip) or base)


async def _commit(path: Path, ref: str) -> str | None:
    """The commit of a ref; a branch that was never checked out here is the remote's."""
    for name in (ref, f"refs/remotes/origin/{ref}"):
        found = await _ask(path, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if found is not None:
            return found
    return None


async def remove_clone(
    path: Path, *, base: str, force: bool, root: Path, environ: Mapping[str, str]
) -> str:
    """Remove a clone; says why it was not, because it holds what its remote does not have. Empty when it is gone."""
    _require_inside(path, root)
    await asyncio.to_thread(_remove_unfinished, path)
    if not force and (path / ".git").exists() and not path.is_symlink():
        reason = await _held(path, base, environ)
        if reason:
            return reason
    await asyncio.to_thread(_remove_tree, path)
    return ""


async def _held(path: Path, base: str, environ: Mapping[str, str]) -> str:
    """What in a clone would be lost with it; when git cannot tell, that is a reason as well."""
    changed = await _ask(path, "status", "--porcelain")
    listing = await _ask(path, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/stash")  # fmt: skip
    if changed is None or listing is None:
        return "git cannot tell what is in it"
    if changed:
        count = changed.count("\n") + 1
        return f"{count} {'file has changes that are' if count == 1 else 'files have changes that are'} in no commit"
    tips = {name: tip for tip, _, name in (line.partition(" ") for line in listing.splitlines())}
    tips["HEAD"] = await _ask(path, "rev-parse", "--verify", "--quiet", "HEAD") or ""
    known = [base] if base else []
    loose: dict[str, str] = {}
    for name, tip in tips.items():
        words = ("rev-list", "--max-count=1", tip, "--not", "--remotes", *known)
        if tip and await _ask(path, *words) != "":
            loose[name] = tip
    if loose:
        # Pushed from here, a new branch has no counterpart here: only the remote knows.
        environ = await _without_questions(path, environ)
        there = await _ask(path, "ls-remote", "--quiet", "origin", environ=environ)
        pushed = {line.partition("\t")[0] for line in (there or "").splitlines()}
        loose = {name: tip for name, tip in loose.items() if tip not in pushed}
    if loose:
        name = next(iter(loose))
        what = {"HEAD": "its HEAD", "refs/stash": "its stash"}.get(
            name, "branch " + name.removeprefix("refs/heads/")
        )
        return f"{what} has commits that were not pushed"
    if (path / ".git" / "worktrees").is_dir() and any((path / ".git" / "worktrees").iterdir()):
        return "another job has a worktree of it"
    return ""


def _remove_unfinished(path: Path) -> None:
    """Clear away what interrupted clones left."""
    left = list(path.parent.glob(f".{path.name}.*"))
    if left:
        # A git that an earlier daemon started may still wait for a remote that never answers.
        pidfd = processes.has_pidfd()
        for process in processes.family(processes.table(), cookies=[_cookie(path)]):
            with contextlib.suppress(PermissionError):
                processes.send(process, signal.SIGKILL, pidfd=pidfd)
    for folder in left:
        _remove_tree(folder)


def _cookie(path: Path) -> str:
    """What the processes that make a clone are known by; no run of a step has such a one."""
    return f"clone-{path.name}"


async def _fetch(attempt: str, folder: Path, *words: str, environ: Mapping[str, str]) -> None:
    """Run a git command that talks to a remote and has to work."""
    environ = await _without_questions(folder, environ)
    code, _, errors = await _run(attempt, folder, words, environ=environ, seconds=CLONE_SECONDS)
    if code == 0:
        return
    absent = _ABSENT.search(errors)
    if absent is not None:
        raise AdapterError(
            f"{attempt}: it has no branch {absent[1]}",
            code="ref",
            hint=f"git push -u origin {absent[1]}",
        )
    lines = [line for line in errors.splitlines() if line.strip() and not _ADVICE.match(line)]
    # A remote helper says why, git only that it did not work.
    said = " / ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in lines[-2:])
    raise AdapterError(
        f"{attempt}: {_SECRET.sub('//***@', said) or f'git ended with {code}'}",
        code="git",
        hint=_remote_hint(errors),
    )


async def _without_questions(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Keep ssh from asking, where nobody has chosen another ssh; without a terminal that one has nobody to ask either."""
    is_chosen = "GIT_SSH" in environ or "GIT_SSH_COMMAND" in environ
    if is_chosen or await _ask(folder, "config", "--get", "core.sshCommand", environ=environ):
        return dict(environ)
    return {**environ, "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}


def _remote_hint(errors: str) -> str:
    if _REFUSED.search(errors):
        return "the daemon's own git needs access: a credential helper or an ssh key on its machine"
    if "Host key verification failed" in errors:
        return "add the host's key to known_hosts on the daemon's machine"
    return "check the URL from the daemon's machine: git ls-remote"


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


async def _ask(repo: Path, *words: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Output of a git command that may say no."""
    code, output, _ = await _run(f"ask git {words[0]} in {repo}", repo, words, environ=environ)
    return output.strip() if code == 0 else None


async def _run(
    attempt: str,
    repo: Path,
    words: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> tuple[int, str, str]:
    """Exit code, output and errors of a git command, in the environment of this process if none is given."""
    seconds = SECONDS if seconds is None else seconds
    try:
        process = await asyncio.create_subprocess_exec(
            *_CLEAN,
            *("-C", str(repo)),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
            # A group of its own, so that a time-out also ends the ssh or filter that git waits for.
            start_new_session=True,
        )
    except ValueError as error:  # NUL in a name
        raise AdapterError(f"{attempt}: {error}", code="invalid") from error
    except OSError as error:
        raise AdapterError(f"{attempt}: {error.strerror}", code="git") from error
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        raise AdapterError(
            f"{attempt}: git {words[0]} took longer than {seconds:g} s",
            code="timeout",
            hint="the network, a hook or a filter may hang",
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
