"""Workspaces with real git: made, made again, removed, and nothing that was committed is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_daemon.adapters import git
from oj_daemon.errors import AdapterError

# ruff: noqa: ASYNC110, ASYNC240 - repositories and processes are made and looked at


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")


def ask(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, name: str) -> str:
    (folder / name).write_text(name)
    ask(folder, "add", name)
    ask(folder, "commit", "-q", "-m", name)
    return ask(folder, "rev-parse", "HEAD")


def branches(repo: Path) -> set[str]:
    return set(ask(repo, "for-each-ref", "--format=%(refname:short)", "refs/heads").split())


def worktrees(repo: Path) -> int:
    return ask(repo, "worktree", "list", "--porcelain").count("worktree ")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo with space"
    repo.mkdir()
    ask(repo, "init", "-q", "-b", "main")
    commit(repo, "first")
    return repo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspaces"


# -- making ------------------------------------------------------------------------------------------------------


async def test_a_worktree_is_made_on_a_new_branch_from_the_ref(repo: Path, root: Path) -> None:
    first = ask(repo, "rev-parse", "HEAD")
    commit(repo, "second")
    assert await git.create_worktree(repo, root / "ws", branch="ws-1", ref=first[:10]) == first
    assert ask(root / "ws", "symbolic-ref", "HEAD") == "refs/heads/ws-1"
    assert sorted(path.name for path in (root / "ws").iterdir()) == [".git", "first"]


async def test_making_it_again_changes_nothing_and_names_the_same_start(
    repo: Path, root: Path
) -> None:
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    (root / "ws" / "mine").write_text("work")
    commit(repo, "second")
    assert await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD") == base
    assert (root / "ws" / "mine").read_text() == "work"


async def test_a_branch_that_an_interrupted_attempt_made_is_used(repo: Path, root: Path) -> None:
    ask(repo, "branch", "ws-1")
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    assert base == ask(root / "ws", "rev-parse", "HEAD")
    assert ask(root / "ws", "symbolic-ref", "HEAD") == "refs/heads/ws-1"


async def test_a_folder_that_vanished_is_made_again_with_its_branch_and_commits(
    repo: Path, root: Path
) -> None:
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    mine = commit(root / "ws", "mine")
    git.remove_folder(root / "ws", root=root)
    assert await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD") == base
    assert ask(root / "ws", "rev-parse", "HEAD") == mine
    assert worktrees(repo) == 2


async def test_a_checkout_that_was_killed_half_way_is_made_again(
    repo: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "INITIALIZING_SECONDS", 0.01)
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    ask(repo, "worktree", "lock", "--reason", "initializing", str(root / "ws"))
    (root / "ws" / "first").unlink()
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    assert (root / "ws" / "first").exists()
    assert worktrees(repo) == 2


async def test_registrations_of_other_missing_worktrees_are_left_alone(
    repo: Path, root: Path, tmp_path: Path
) -> None:
    ask(repo, "worktree", "add", "-q", str(tmp_path / "on a stick"), "-b", "theirs")
    (tmp_path / "on a stick").rename(tmp_path / "unplugged")
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    await git.remove_worktree(repo, root / "ws", branch="ws-1", root=root, own_branch=True)
    assert worktrees(repo) == 2


async def test_many_worktrees_of_one_repository_at_once(repo: Path, root: Path) -> None:
    names = [f"ws-{number}" for number in range(8)]
    await asyncio.gather(
        *(git.create_worktree(repo, root / name, branch=name, ref="HEAD") for name in names)
    )
    assert branches(repo) == {"main", *names}
    await asyncio.gather(
        *(
            git.remove_worktree(repo, root / name, branch=name, root=root, own_branch=True)
            for name in names
        )
    )
    assert (branches(repo), worktrees(repo)) == ({"main"}, 1)


async def test_variables_that_point_git_elsewhere_do_not(
    repo: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    monkeypatch.undo()
    assert worktrees(repo) == 2


@pytest.mark.parametrize(
    ("branch", "ref", "code", "message"),
    [
        ("-D", "HEAD", "invalid", "'-D' cannot be a branch"),
        ("", "HEAD", "invalid", "'' cannot be a branch"),
        ("ws", "--output=x", "invalid", "'--output=x' cannot be a ref"),
        ("ws", "nowhere", "ref", "there is no commit 'nowhere'"),
        ("a..b", "HEAD", "git", "not a valid branch name"),
        ("a\0b", "HEAD", "invalid", "null byte"),
        ("main", "HEAD", "git", "already (checked out|used by worktree)"),
        ("old", "HEAD", "conflict", "the branch exists and does not contain 'HEAD'"),
    ],
)
async def test_what_cannot_be_made_is_a_clear_error(
    repo: Path, root: Path, branch: str, ref: str, code: str, message: str
) -> None:
    ask(repo, "branch", "old")
    commit(repo, "second")
    with pytest.raises(AdapterError, match=message) as caught:
        await git.create_worktree(repo, root / "ws", branch=branch, ref=ref)
    assert caught.value.code == code
    assert not (root / "ws").exists()
    assert worktrees(repo) == 1


async def test_a_folder_without_repository_is_a_clear_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(AdapterError, match="not a git repository") as caught:
        await git.create_worktree(tmp_path / "plain", root / "ws", branch="ws", ref="HEAD")
    assert "git init" in caught.value.hint
    with pytest.raises(AdapterError, match="there is no folder"):
        await git.create_worktree(tmp_path / "gone", root / "ws", branch="ws", ref="HEAD")


async def test_a_repository_without_commits_is_a_clear_error(root: Path, tmp_path: Path) -> None:
    ask(tmp_path, "init", "-q", "empty")
    with pytest.raises(AdapterError, match="there is no commit 'HEAD'"):
        await git.create_worktree(tmp_path / "empty", root / "ws", branch="ws", ref="HEAD")


async def test_something_else_in_its_place_is_never_overwritten(repo: Path, root: Path) -> None:
    (root / "ws").mkdir(parents=True)
    (root / "ws" / "precious").touch()
    with pytest.raises(AdapterError, match="something else") as caught:
        await git.create_worktree(repo, root / "ws", branch="ws", ref="HEAD")
    assert caught.value.code == "conflict"
    assert (root / "ws" / "precious").exists()


async def test_a_git_that_is_given_up_is_ended_with_what_it_waits_for(
    repo: Path, root: Path, tmp_path: Path
) -> None:
    hook = repo / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\necho $$ > "{tmp_path}/pid"\nexec sleep 1000\n')
    hook.chmod(0o755)
    making = asyncio.ensure_future(
        git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    )
    pid_file = tmp_path / "pid"
    async with asyncio.timeout(30):
        while not pid_file.exists() or not pid_file.read_text().endswith("\n"):
            await asyncio.sleep(0.01)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        status = Path(f"/proc/{int(pid_file.read_text())}/status")
        while status.exists() and "State:\tZ" not in status.read_text():
            await asyncio.sleep(0.01)


async def test_a_git_that_takes_too_long_is_a_clear_error(
    repo: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "SECONDS", 0)
    with pytest.raises(AdapterError, match="git rev-parse took longer than 0 s") as caught:
        await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    assert caught.value.code == "timeout"


async def test_a_lock_of_another_git_is_waited_for_and_reported_if_it_stays(
    repo: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "BUSY_PAUSES", (0.0, 0.0))
    lock = repo / ".git" / "refs" / "heads" / "ws-1.lock"
    lock.touch()
    with pytest.raises(AdapterError, match=r"ws-1\.lock'?: File exists") as caught:
        await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    assert caught.value.code == "busy"

    def pauses() -> Iterator[float]:
        yield 0.0  # the first attempt meets the lock
        lock.unlink()
        yield 0.0

    monkeypatch.setattr(git, "BUSY_PAUSES", pauses())
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    assert worktrees(repo) == 2


# -- removing ----------------------------------------------------------------------------------------------------


async def test_a_worktree_without_commits_goes_with_its_branch(repo: Path, root: Path) -> None:
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    (root / "ws" / "uncommitted").touch()
    for _ in range(2):
        note = await git.remove_worktree(
            repo, root / "ws", branch="ws-1", base=base, root=root, own_branch=True
        )
        assert note == ""
        assert (branches(repo), worktrees(repo)) == ({"main"}, 1)
        assert not (root / "ws").exists()


async def test_a_branch_with_commits_of_its_own_stays(repo: Path, root: Path) -> None:
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    report = commit(root / "ws", "report")
    note = await git.remove_worktree(
        repo, root / "ws", branch="ws-1", base=base, root=root, own_branch=True
    )
    assert note == "branch ws-1 was kept: it has commits that are nowhere else"
    assert ask(repo, "rev-parse", "ws-1") == report
    assert worktrees(repo) == 1


async def test_a_branch_goes_when_its_commits_are_merged_pushed_or_tagged(
    repo: Path, root: Path
) -> None:
    for number, save in enumerate(
        (["branch", "saved"], ["tag", "kept"], ["update-ref", "refs/remotes/o/b"])
    ):
        name = f"ws-{number}"
        base = await git.create_worktree(repo, root / name, branch=name, ref="HEAD")
        done = commit(root / name, name)
        ask(repo, *save, done)
        assert (
            await git.remove_worktree(
                repo, root / name, branch=name, base=base, root=root, own_branch=True
            )
            == ""
        )
    assert branches(repo) == {"main", "saved"}


async def test_a_branch_that_the_runbook_named_stays_even_without_commits(
    repo: Path, root: Path
) -> None:
    await git.create_worktree(repo, root / "ws", branch="feature", ref="HEAD")
    assert await git.remove_worktree(repo, root / "ws", branch="feature", root=root) == ""
    assert branches(repo) == {"main", "feature"}


async def test_commits_on_a_detached_head_get_a_branch(repo: Path, root: Path) -> None:
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    ask(root / "ws", "checkout", "-q", "--detach")
    lonely = commit(root / "ws", "lonely")
    note = await git.remove_worktree(repo, root / "ws", branch="ws-1", root=root, own_branch=True)
    assert note == f"commits outside of any branch were kept as branch ws-1-detached-{lonely[:8]}"
    assert branches(repo) == {"main", f"ws-1-detached-{lonely[:8]}"}


async def test_commits_that_a_garbage_collection_would_not_find_otherwise_survive_it(
    repo: Path, root: Path
) -> None:
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    report = commit(root / "ws", "report")
    await git.remove_worktree(
        repo, root / "ws", branch="ws-1", base=base, root=root, own_branch=True
    )
    ask(repo, "reflog", "expire", "--expire=now", "--all")
    ask(repo, "gc", "-q", "--prune=now")
    assert ask(repo, "cat-file", "-t", report) == "commit"


async def test_a_vanished_repository_or_folder_does_not_stop_the_removal(
    repo: Path, root: Path, tmp_path: Path
) -> None:
    await git.create_worktree(repo, root / "a", branch="ws-a", ref="HEAD")
    await git.create_worktree(repo, root / "b", branch="ws-b", ref="HEAD")
    git.remove_folder(root / "a", root=root)
    assert (
        await git.remove_worktree(repo, root / "a", branch="ws-a", root=root, own_branch=True) == ""
    )
    assert branches(repo) == {"main", "ws-b"}
    repo.rename(tmp_path / "moved")
    note = await git.remove_worktree(repo, root / "b", branch="ws-b", root=root, own_branch=True)
    assert note == f"the repository {repo} is gone"
    assert not (root / "b").exists()


async def test_a_worktree_stays_while_git_cannot_look_into_its_repository(
    repo: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    ask(root / "ws", "checkout", "-q", "--detach")
    commit(root / "ws", "precious")
    path = os.environ["PATH"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(AdapterError, match="git") as caught:
        await git.remove_worktree(
            repo, root / "ws", branch="ws-1", root=root, base=base, own_branch=True
        )
    assert caught.value.hint == "install git"
    monkeypatch.setenv("PATH", path)
    note = await git.remove_worktree(
        repo, root / "ws", branch="ws-1", root=root, base=base, own_branch=True
    )
    assert "were kept" in note
    assert not (root / "ws").exists()


async def test_a_locked_worktree_is_removed(repo: Path, root: Path) -> None:
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    ask(repo, "worktree", "lock", str(root / "ws"))
    assert (
        await git.remove_worktree(repo, root / "ws", branch="ws-1", root=root, own_branch=True)
        == ""
    )
    assert worktrees(repo) == 1


async def test_a_workspace_that_was_replaced_by_a_link_takes_nothing_with_it(
    repo: Path, root: Path, tmp_path: Path
) -> None:
    ask(repo, "worktree", "add", "-q", str(tmp_path / "theirs"), "-b", "theirs")
    await git.create_worktree(repo, root / "ws", branch="ws-1", ref="HEAD")
    git.remove_folder(root / "ws", root=root)
    (root / "ws").symlink_to(tmp_path / "theirs")
    await git.remove_worktree(repo, root / "ws", branch="ws-1", root=root, own_branch=True)
    assert (tmp_path / "theirs" / "first").exists()
    assert branches(repo) == {"main", "theirs"}
    assert worktrees(repo) == 2
    assert not (root / "ws").is_symlink()


# -- folders -----------------------------------------------------------------------------------------------------


def test_folders_are_made_and_removed_any_number_of_times(root: Path) -> None:
    for _ in range(2):
        git.create_folder(root / "ws", root=root)
    (root / "ws" / "deep").mkdir()
    for _ in range(2):
        git.remove_folder(root / "ws", root=root)
    assert list(root.iterdir()) == []


def test_folders_without_permissions_are_removed(root: Path) -> None:
    git.create_folder(root / "ws", root=root)
    (root / "ws" / "cache" / "inner").mkdir(parents=True)
    (root / "ws" / "cache" / "inner" / "file").touch()
    (root / "ws" / "cache" / "inner").chmod(0)
    (root / "ws" / "cache").chmod(0o500)
    git.remove_folder(root / "ws", root=root)
    assert not (root / "ws").exists()


def test_links_in_a_folder_are_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    git.create_folder(root / "ws", root=root)
    (root / "ws" / "link").symlink_to(tmp_path / "precious")
    git.remove_folder(root / "ws", root=root)
    (root / "link").symlink_to(tmp_path / "precious")
    git.remove_folder(root / "link", root=root)
    assert (tmp_path / "precious" / "file").exists()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("inside", [".", "..", "../x", "a/../../x", "link/x"])
async def test_nothing_outside_of_the_root_is_touched(
    repo: Path, root: Path, tmp_path: Path, inside: str
) -> None:
    root.mkdir()
    (tmp_path / "x").mkdir()
    (root / "link").symlink_to(tmp_path)
    path = Path(os.path.join(root, inside))  # noqa: PTH118 - keeps the dots
    with pytest.raises(AdapterError, match="it is not below"):
        git.remove_folder(path, root=root)
    with pytest.raises(AdapterError, match="it is not below"):
        git.create_folder(path, root=root)
    with pytest.raises(AdapterError, match="it is not below"):
        await git.remove_worktree(repo, path, branch="b", root=root)
    assert (tmp_path / "x").is_dir()
