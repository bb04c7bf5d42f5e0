"""Which project the caller is in: its root folder, its name and the repository around it.

Rule: found from the folder upwards and from what the user said; nothing is asked of the daemon and nothing is written.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from oj_daemon.errors import OjError

MARKER = ".oj"
DEFAULT_NAME = "default"
GIT_SECONDS = 10
"""How long one question to git may take (a repository on a dead network share hangs)."""


def find_root(start: Path) -> Path:
    """The project root around `start`: the nearest folder with `.oj`, in the main checkout if that has one too.

    A job's worktree is a checkout of its own; without this rule an `oj` called inside a job would act as another
    project.
    """
    top = _checkout_top(start)
    main = _main_checkout(top) if top is not None else None
    marked = _nearest_marked(start, top)
    if main is not None and top is not None:
        inside = (marked or start).relative_to(top)
        if marked is not None:
            return main / inside if _is_marked(main / inside) else marked
        twin = _nearest_marked(main / inside, main)
        if twin is not None:
            return twin
    return marked or _nearest_marked(start, None) or start


def project_name(root: Path) -> str:
    """The name by `.oj/config.toml`, else that of the folder, else `default`."""
    return _configured_name(root) or root.name or DEFAULT_NAME


def repository(folder: Path) -> dict[str, str] | None:
    """Root, URL, branch and commit of the git work tree around `folder`; None where there is none.

    OjError when git cannot be asked, or does not want to know a repository that is there.
    The three questions run at the same time, because each costs a process start.
    """
    questions = {
        "root": ("rev-parse", "--show-toplevel"),
        "url": ("config", "--get", "remote.origin.url"),
        "branch": ("symbolic-ref", "--quiet", "--short", "HEAD"),
        "head": ("rev-parse", "--verify", "--quiet", "HEAD"),
    }
    try:
        asked = {key: _ask_git(folder, *words) for key, words in questions.items()}
    except OSError as failure:
        raise OjError(
            f"could not ask git about {folder}: {failure.strerror}: {failure.filename or 'git'}",
            code="invalid",
            hint="install git, or put it on PATH; oj doctor",
        ) from failure
    answers = {key: _answer(process) for key, process in asked.items()}
    root, trouble = answers["root"]
    if not root:
        if _checkout_top(folder) is None:
            return None
        # There is a repository, and git will not have it: another user's, broken, on a dead share.
        raise OjError(
            f"could not ask git about {folder}: {trouble or 'it gave no answer'}",
            code="invalid",
            hint=f"git -C {shlex.quote(str(folder))} status",
        )
    told = {key: answer for key, (answer, _) in answers.items()}
    return {**told, "url": without_credentials(told["url"])}


def is_in_checkout(folder: Path) -> bool:
    """Whether there is a repository around `folder`, as far as can be seen without git."""
    return _checkout_top(folder) is not None


def without_credentials(url: str) -> str:
    """`url` without user name and password, which must not travel into logs; `git@host:path` is no secret."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("/")
    user, at, bare = host.rpartition("@")
    if not at or (scheme in ("ssh", "git+ssh") and ":" not in user):
        return url
    return f"{scheme}://{bare}{slash}{path}"


def _is_marked(folder: Path) -> bool:
    return (folder / MARKER).is_dir()


def _nearest_marked(start: Path, stop: Path | None) -> Path | None:
    """The nearest folder with the marker, from `start` up to `stop` (None: up to the root)."""
    for folder in (start, *start.parents):
        if _is_marked(folder):
            return folder
        if folder == stop:
            return None
    return None


def _checkout_top(start: Path) -> Path | None:
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), None)


def _main_checkout(top: Path) -> Path | None:
    """The main checkout of the worktree at `top`; None when `top` is no worktree (a submodule is none either)."""
    link = top / ".git"
    if not link.is_file():
        return None
    try:
        text = link.read_text(encoding="utf-8", errors="surrogateescape")
        folder = top / text.removeprefix("gitdir:").strip()
        common = (folder / "commondir").read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # a folder, gone, or a name with NUL
        return None
    git_folder = Path(os.path.normpath(folder / common.strip()))
    return git_folder.parent if git_folder.name == ".git" and git_folder.parent.is_dir() else None


def container(root: Path) -> dict[str, object]:
    """What `.oj/config.toml` says about places; the daemon judges it."""
    found: dict[str, object] = json.loads(json.dumps(_section(root, "container"), default=str))
    return found  # dates became text: JSON has none


def _configured_name(root: Path) -> str:
    name = _section(root, "project").get("name", "")
    return name if isinstance(name, str) and name.strip() else ""


def _section(root: Path, name: str) -> dict[str, object]:
    """A table of the configuration; empty where there is none."""
    path = root / MARKER / "config.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as failure:
        message = f"Could not read {path}: {failure}"
        raise OjError(message, code="invalid", hint="correct the file") from failure
    import tomllib  # noqa: PLC0415 - 5 ms that projects without a configuration do not pay

    try:
        section = tomllib.loads(text).get(name, {})
    except (tomllib.TOMLDecodeError, RecursionError) as failure:
        message = f"Could not read {path}: {failure}"
        raise OjError(message, code="invalid", hint="correct the file") from failure
    return section if isinstance(section, dict) else {}


def _ask_git(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["git", "-C", str(folder), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
    )


def _answer(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What git says, and what it complains about if it says nothing."""
    with process:
        try:
            answer, trouble = process.communicate(timeout=GIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return "", f"it took longer than {GIT_SECONDS} s"
    if process.returncode == 0:
        return answer.strip(), ""
    first, _, _ = trouble.strip().partition("\n")
    return "", first.removeprefix("fatal: ")
