"""Clones with real git: made, made again, compared with what the caller has, and removed only when nothing is lost."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_daemon.adapters import git
from oj_daemon.errors import AdapterError
from tests.oj_daemon.adapters.test_git import ask, branches, commit
from tests.support.waiting import until

# ruff: noqa: ASYNC110, ASYNC221 - repositories and processes are made and looked at


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What the daemon's git sees, and that of the tests as well."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
    return git.remote_environ({}, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The caller's repository, with everything pushed to `shared`."""
    ask(tmp_path, "init", "-q", "--bare", "-b", "main", "shared")
    mine = tmp_path / "mine"
    mine.mkdir()
    ask(mine, "init", "-q", "-b", "main")
    ask(mine, "remote", "add", "origin", str(tmp_path / "shared"))
    commit(mine, "first")
    ask(mine, "push", "-q", "-u", "origin", "main")
    return mine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspaces"


class Maker:
    """Makes and removes clones of one URL."""

    def __init__(self, url: str, root: Path, environ: dict[str, str]) -> None:
        self.url, self.root, self.environ = url, root, environ

    async def make(
        self, name: str = "ws", *, start: str = "main", **options: str | bool
    ) -> git.Clone:
        return await git.create_clone(
            self.url,
            self.root / name,
            start=start,
            root=self.root,
            environ=self.environ,
            **options,  # type: ignore[arg-type]  # texts, and one flag
        )

    async def remove(self, name: str = "ws", *, base: str = "", force: bool = False) -> str:
        return await git.remove_clone(
            self.root / name, base=base, force=force, root=self.root, environ=self.environ
        )


@pytest.fixture
def maker(mine: Path, root: Path, environ: dict[str, str]) -> Maker:
    return Maker(f"file://{mine.parent / 'shared'}", root, environ)


# -- making ------------------------------------------------------------------------------------------------------


async def test_a_clone_is_made_at_the_callers_branch_and_has_no_other(
    mine: Path, maker: Maker
) -> None:
    ask(mine, "switch", "-qc", "feature")
    head = commit(mine, "second")
    ask(mine, "push", "-q", "origin", "feature")
    made = await maker.make(start="feature", head=head)
    assert made == git.Clone(base=head)
    assert ask(maker.root / "ws", "symbolic-ref", "HEAD") == "refs/heads/feature"
    assert ask(maker.root / "ws", "branch", "-r") == "origin/feature"
    assert [path.name for path in maker.root.iterdir()] == ["ws"]


async def test_a_clone_gets_the_jobs_branch_and_the_caller_gets_nothing(
    mine: Path, maker: Maker
) -> None:
    made = await maker.make(branch="ws-1")
    assert made.base == ask(mine, "rev-parse", "HEAD")
    assert branches(maker.root / "ws") == {"main", "ws-1"}
    assert ask(maker.root / "ws", "symbolic-ref", "HEAD") == "refs/heads/ws-1"
    assert branches(mine) == {"main"}


async def test_making_it_again_goes_on_with_what_is_there(maker: Maker) -> None:
    first = await maker.make(branch="ws-1")
    own = commit(maker.root / "ws", "own")
    (maker.root / "ws" / "more").write_text("work")
    assert (await maker.make(branch="ws-1")).base in (first.base, own)
    assert (maker.root / "ws" / "more").exists()
    assert ask(maker.root / "ws", "rev-parse", "HEAD") == own


async def test_the_branch_may_come_after_the_clone(mine: Path, maker: Maker) -> None:
    """A `ref` that has to be evaluated is evaluated in the clone."""
    first = ask(mine, "rev-parse", "HEAD")
    commit(mine, "second")
    ask(mine, "push", "-q")
    await maker.make(all_branches=True)
    made = await maker.make(all_branches=True, branch="ws-1", ref=first)
    assert made.base == first
    assert ask(maker.root / "ws", "rev-parse", "ws-1") == first


async def test_what_an_interrupted_clone_left_is_cleared_away(maker: Maker) -> None:
    left = maker.root / ".ws.0badcafe" / "objects"
    left.mkdir(parents=True)
    await maker.make()
    assert [path.name for path in maker.root.iterdir()] == ["ws"]


async def test_a_ref_may_be_another_branch_of_the_remote(mine: Path, maker: Maker) -> None:
    stable = ask(mine, "rev-parse", "HEAD")
    ask(mine, "push", "-q", "origin", "main:stable")
    commit(mine, "second")
    ask(mine, "push", "-q")
    for name, ref in (("a", "stable"), ("b", "origin/stable"), ("c", stable)):
        made = await maker.make(name, branch="ws-1", ref=ref, all_branches=True)
        assert made.base == stable


async def test_a_ref_that_is_not_there_names_it(maker: Maker) -> None:
    with pytest.raises(AdapterError, match="there is no commit 'nosuch'"):
        await maker.make(branch="ws-1", ref="nosuch", all_branches=True)
    assert not (maker.root / "ws").exists()


async def test_a_branch_that_the_remote_has_is_continued(mine: Path, maker: Maker) -> None:
    ask(mine, "switch", "-qc", "work")
    pushed = commit(mine, "second")
    ask(mine, "push", "-q", "origin", "work")
    await maker.make(branch="work", all_branches=True)
    assert ask(maker.root / "ws", "rev-parse", "HEAD") == pushed


async def test_a_branch_of_the_remote_without_the_start_is_a_conflict(
    mine: Path, maker: Maker
) -> None:
    ask(mine, "push", "-q", "origin", "main:work")
    commit(mine, "second")
    ask(mine, "push", "-q")
    with pytest.raises(AdapterError, match="its branch work does not contain 'HEAD'"):
        await maker.make(branch="work", all_branches=True)


# -- what the caller has, and the remote does not -----------------------------------------------------------------


async def test_a_branch_that_was_never_pushed_says_how_to_push_it(maker: Maker) -> None:
    with pytest.raises(AdapterError, match="it has no branch mine-only") as caught:
        await maker.make(start="mine-only")
    assert caught.value.hint == "git push -u origin mine-only"
    assert list(maker.root.iterdir()) == []


async def test_a_commit_that_is_not_pushed_is_told(mine: Path, maker: Maker) -> None:
    pushed = ask(mine, "rev-parse", "HEAD")
    own = commit(mine, "second")
    made = await maker.make(head=own)
    assert made.notes == (f"your commit {own[:7]} is not pushed: the job works on {pushed[:7]}",)


async def test_a_caller_behind_the_branch_is_told_of_the_newer_commit(
    mine: Path, maker: Maker
) -> None:
    old = ask(mine, "rev-parse", "HEAD")
    new = commit(mine, "second")
    ask(mine, "push", "-q")
    made = await maker.make(head=old)
    assert made.notes == (
        f"main has gone on since your commit {old[:7]}: the job works on {new[:7]}",
    )


async def test_a_caller_without_a_branch_gets_its_commit_if_the_remote_has_it(
    mine: Path, maker: Maker
) -> None:
    first = ask(mine, "rev-parse", "HEAD")
    commit(mine, "second")
    ask(mine, "push", "-q")
    assert (await maker.make(start="", head=first)).base == first
    assert ask(maker.root / "ws", "rev-parse", "HEAD") == first
    own = commit(mine, "third")
    with pytest.raises(AdapterError, match=f"your commit {own[:7]} is on none of its branches"):
        await maker.make("other", start="", head=own)


async def test_a_folder_that_is_not_in_the_clone_is_told(maker: Maker) -> None:
    made = await maker.make(folder="build/out")
    assert made.notes == ("the folder build/out, where oj was called, is not in the clone",)


# -- what may go wrong --------------------------------------------------------------------------------------------


async def test_a_url_that_leads_nowhere_is_one_sentence(maker: Maker, tmp_path: Path) -> None:
    maker.url = str(tmp_path / "nosuch")
    with pytest.raises(AdapterError, match=r"clone .*nosuch: .*does not exist") as caught:
        await maker.make()
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("url", ["--upload-pack=touch${IFS}x", "-x", ""])
async def test_a_url_that_looks_like_an_option_is_refused(maker: Maker, url: str) -> None:
    maker.url = url
    with pytest.raises(AdapterError, match="cannot be a URL"):
        await maker.make()


@pytest.mark.parametrize("options", [{"start": "-x"}, {"branch": "-x"}, {"ref": "--x"}])
async def test_names_that_look_like_options_are_refused(
    maker: Maker, options: dict[str, str]
) -> None:
    with pytest.raises(AdapterError, match="cannot be a"):
        await maker.make(**options)


async def test_a_url_that_runs_a_program_is_refused_by_git(maker: Maker, tmp_path: Path) -> None:
    maker.url = f"ext::sh -c touch% {tmp_path}/run"
    with pytest.raises(AdapterError, match="not allowed"):
        await maker.make()
    assert not (tmp_path / "run").exists()


async def test_a_workspace_outside_of_the_root_is_refused(maker: Maker) -> None:
    with pytest.raises(AdapterError, match="is not below"):
        await maker.make("../elsewhere")


async def test_ssh_is_told_to_ask_nothing_and_what_it_says_is_passed_on(
    maker: Maker, tmp_path: Path, environ: dict[str, str]
) -> None:
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\necho "$@" >"$HOME/asked"\necho "git@example.org: Permission denied (publickey)." >&2\nexit 255\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    maker.url = "git@example.org:team/shop.git"
    maker.environ = {**environ, "PATH": f"{fake.parent}:{environ['PATH']}"}
    with pytest.raises(AdapterError, match=r"Permission denied \(publickey\)") as caught:
        await maker.make()
    assert "-oBatchMode=yes" in (tmp_path / "asked").read_text()
    assert "ssh key" in (caught.value.hint or "")


async def test_an_ssh_that_was_chosen_is_left_as_it_is(
    maker: Maker, tmp_path: Path, environ: dict[str, str]
) -> None:
    maker.url = "git@example.org:team/shop.git"
    own = {"GIT_SSH_COMMAND": f"sh -c 'echo mine >{tmp_path}/asked; exit 1'"}
    maker.environ = git.remote_environ(own, environ)
    with pytest.raises(AdapterError):
        await maker.make()
    assert (tmp_path / "asked").read_text() == "mine\n"


async def test_a_remote_that_says_nothing_ends_with_the_time(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "CLONE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        maker.url = f"git://127.0.0.1:{silent.getsockname()[1]}/shop"
        with pytest.raises(AdapterError, match=r"git clone took longer than 0\.5 s"):
            await maker.make()


def test_only_what_git_needs_of_the_environment_is_passed_on() -> None:
    inherited = {
        "OJ_AUTH_TOKEN": "secret",
        "GIT_DIR": "/elsewhere",
        "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_CONFIG_GLOBAL": "/etc/git",
        "SSH_ASKPASS": "window",
    }
    assert git.remote_environ(inherited, {"PATH": "/bin"}) == {
        "PATH": "/bin",
        "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_CONFIG_GLOBAL": "/etc/git",
        "SSH_ASKPASS_REQUIRE": "never",
    }


@pytest.fixture
def served(mine: Path) -> Iterator[str]:
    """The shared repository, served over the network by `git daemon`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all", "--reuseaddr",
               f"--base-path={mine.parent}", "--enable=receive-pack"]  # fmt: skip
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _answers(port), 30, "git daemon listens")
            yield f"git://127.0.0.1:{port}/shared"
        finally:
            os.killpg(server.pid, 15)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def test_a_clone_over_the_network_is_pushed_and_then_goes(maker: Maker, served: str) -> None:
    maker.url = served
    made = await maker.make(branch="ws-1")
    commit(maker.root / "ws", "own")
    assert "branch ws-1 has commits that were not pushed" in await maker.remove(base=made.base)
    ask(maker.root / "ws", "push", "-q", "origin", "ws-1")
    assert await maker.remove(base=made.base) == ""
    assert list(maker.root.iterdir()) == []


# -- removing -----------------------------------------------------------------------------------------------------


async def test_a_clone_without_work_of_its_own_goes(maker: Maker) -> None:
    made = await maker.make(branch="ws-1")
    assert await maker.remove(base=made.base) == ""
    assert list(maker.root.iterdir()) == []
    assert await maker.remove(base=made.base) == ""


async def test_commits_that_are_nowhere_else_keep_it_until_they_are_pushed(maker: Maker) -> None:
    made = await maker.make()
    commit(maker.root / "ws", "own")
    assert await maker.remove(base=made.base) == "branch main has commits that were not pushed"
    ask(maker.root / "ws", "push", "-q")
    assert await maker.remove(base=made.base) == ""


async def test_commits_under_another_name_at_the_remote_are_not_lost(maker: Maker) -> None:
    made = await maker.make(branch="ws-1")
    commit(maker.root / "ws", "own")
    ask(maker.root / "ws", "push", "-q", maker.url, "HEAD:refs/for/review")
    assert await maker.remove(base=made.base) == ""


async def test_a_remote_that_is_gone_keeps_commits(maker: Maker, tmp_path: Path) -> None:
    made = await maker.make(branch="ws-1")
    commit(maker.root / "ws", "own")
    (tmp_path / "shared").rename(tmp_path / "moved")
    assert "not pushed" in await maker.remove(base=made.base)
    assert (maker.root / "ws" / "own").exists()


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("echo x >>first", "1 file has changes"),
        ("echo x >new; echo x >newer", "2 files have changes"),
        ("git checkout -q --detach; echo x >o; git add o; git commit -qm o", "its HEAD"),
        ("echo x >>first; git stash -q", "its stash"),
        ("git worktree add -q ../other -b other", "another job has a worktree of it"),
        (": >.git/HEAD", "git cannot tell"),
    ],
)
async def test_whatever_else_would_be_lost_keeps_it_unless_forced(
    maker: Maker, deed: str, reason: str
) -> None:
    made = await maker.make(branch="ws-1")
    subprocess.run(["sh", "-ec", deed], cwd=maker.root / "ws", check=True)
    assert reason in await maker.remove(base=made.base)
    assert (maker.root / "ws" / "first").exists()
    assert await maker.remove(base=made.base, force=True) == ""
    assert not (maker.root / "ws").exists()


async def test_ignored_files_are_no_work(maker: Maker) -> None:
    made = await maker.make(branch="ws-1")
    (maker.root / "ws" / ".git" / "info" / "exclude").write_text("*.o\n")
    (maker.root / "ws" / "x.o").write_text("built")
    assert await maker.remove(base=made.base) == ""


async def test_a_start_at_a_tag_that_no_branch_holds_is_no_work(mine: Path, maker: Maker) -> None:
    ask(mine, "switch", "-q", "--detach")
    tagged = commit(mine, "tagged")
    ask(mine, "tag", "v1")
    ask(mine, "push", "-q", "origin", "v1")
    made = await maker.make(branch="ws-1", ref="v1", all_branches=True)
    assert made.base == tagged
    assert await maker.remove(base=made.base) == ""


async def test_a_cancelled_clone_leaves_no_git_behind(
    maker: Maker, tmp_path: Path, environ: dict[str, str]
) -> None:
    maker.url = "git@example.org:team/shop.git"
    maker.environ = {
        **environ,
        "GIT_SSH_COMMAND": f"sh -c 'echo $$ >{tmp_path}/pid; exec sleep 300'",
    }
    task = asyncio.create_task(maker.make())
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        await asyncio.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text(),
          30, "the ssh of that git is gone")  # fmt: skip


async def test_a_program_that_a_job_made_git_run_sees_no_secret_of_the_daemon(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OJ_AUTH_TOKEN", "sesame")
    monkeypatch.setenv("OJ_NOTIFY_WEBHOOK_URL", "https://example.org/sesame")
    made = await maker.make(branch="ws-1")
    ask(maker.root / "ws", "config", "core.fsmonitor", f"env >{tmp_path}/seen; false")
    await maker.remove(base=made.base)
    seen = (tmp_path / "seen").read_text()
    assert "HOME=" in seen
    assert "sesame" not in seen
