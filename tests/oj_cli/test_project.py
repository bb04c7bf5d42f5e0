"""Root, name and repository of the project that the caller is in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from oj_cli.project import container, find_root, project_name, repository, without_credentials
from oj_daemon.errors import OjError


def git(folder: Path, *words: str) -> str:
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def new_repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def marked(folder: Path) -> Path:
    (folder / ".oj").mkdir(parents=True)
    return folder


def test_the_nearest_marked_folder_is_the_root(tmp_path: Path) -> None:
    root = marked(tmp_path / "shop")
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    assert find_root(deep) == root
    assert find_root(root) == root
    assert find_root(marked(root / "a")) == root / "a"


def test_without_a_mark_the_folder_itself_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert find_root(tmp_path / "x") == tmp_path / "x"


def test_a_file_named_like_the_mark_is_none(tmp_path: Path) -> None:
    (tmp_path / ".oj").write_text("")
    assert find_root(tmp_path) == tmp_path
    (tmp_path / "x").mkdir()
    assert find_root(tmp_path / "x") == tmp_path / "x"


@pytest.mark.parametrize("has_own_mark", [True, False])
def test_in_a_worktree_the_main_checkout_is_the_root(tmp_path: Path, *, has_own_mark: bool) -> None:
    main = marked(new_repository(tmp_path / "main"))
    tree = tmp_path / "elsewhere" / "tree"
    git(main, "worktree", "add", "-q", str(tree))
    if has_own_mark:
        marked(tree)
    (tree / "sub").mkdir()
    assert find_root(tree) == main
    assert find_root(tree / "sub") == main


def test_a_worktree_whose_main_checkout_has_no_mark_is_its_own_root(tmp_path: Path) -> None:
    main = new_repository(tmp_path / "main")
    tree = tmp_path / "tree"
    git(main, "worktree", "add", "-q", str(tree))
    assert find_root(marked(tree)) == tree


def test_a_marked_folder_deep_in_a_worktree_leads_to_its_twin(tmp_path: Path) -> None:
    main = new_repository(tmp_path / "main")
    twin = marked(main / "services" / "web")
    tree = tmp_path / "tree"
    git(main, "worktree", "add", "-q", str(tree))
    inner = marked(tree / "services" / "web")
    (inner / "src").mkdir()
    assert find_root(inner / "src") == twin
    other = marked(tree / "services" / "mail")
    assert find_root(other) == other


def test_a_submodule_is_no_worktree(tmp_path: Path) -> None:
    outer = marked(tmp_path / "outer")
    inner = marked(outer / "lib")
    store = outer / ".git" / "modules" / "lib"
    store.mkdir(parents=True)
    (inner / ".git").write_text(f"gitdir: {store}\n")
    assert find_root(inner) == inner


@pytest.mark.parametrize(
    "text", ["", "gitdir: /nonexistent/.git/worktrees/tree\n", "nonsense", "gitdir:", "\0"]
)
def test_a_worktree_whose_link_leads_nowhere_is_its_own_root(tmp_path: Path, text: str) -> None:
    tree = marked(tmp_path / "tree")
    (tree / ".git").write_text(text)
    assert find_root(tree) == tree


def test_the_name_comes_from_the_configuration_else_from_the_folder(tmp_path: Path) -> None:
    root = marked(tmp_path / "shop")
    assert project_name(root) == "shop"
    (root / ".oj" / "config.toml").write_text('[project]\nname = "store"\n')
    assert project_name(root) == "store"
    assert project_name(Path("/")) == "default"


@pytest.mark.parametrize(
    "text", ["", "[other]\nname='x'", "project = 3", "[project]\nname = 3", "[project]\nname = ' '"]
)
def test_a_configuration_without_a_name_changes_nothing(tmp_path: Path, text: str) -> None:
    root = marked(tmp_path / "shop")
    (root / ".oj" / "config.toml").write_text(text)
    assert project_name(root) == "shop"


@pytest.mark.parametrize("content", [b"[project\nname=", b"\xff\xfe", b"x = " + b"[" * 5000])
def test_a_broken_configuration_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    root = marked(tmp_path / "shop")
    (root / ".oj" / "config.toml").write_bytes(content)
    with pytest.raises(OjError, match=r"config\.toml"):
        project_name(root)


def test_a_date_in_the_configuration_of_places_travels_as_text(tmp_path: Path) -> None:
    root = marked(tmp_path / "shop")
    (root / ".oj" / "config.toml").write_text("[container.pod.annotations]\nsince = 2024-01-01\n")
    assert container(root) == {"pod": {"annotations": {"since": "2024-01-01"}}}


def test_a_repository_tells_root_branch_commit_and_url(tmp_path: Path) -> None:
    repo = new_repository(tmp_path / "r")
    git(repo, "remote", "add", "origin", "https://me:secret@example.org/x.git")
    (repo / "sub").mkdir()
    assert repository(repo / "sub") == {
        "root": str(repo),
        "url": "https://example.org/x.git",
        "branch": "main",
        "head": git(repo, "rev-parse", "HEAD"),
    }


def test_a_repository_without_commits_or_remote_leaves_those_empty(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    git(tmp_path / "r", "init", "-q", "-b", "trunk")
    assert repository(tmp_path / "r") == {
        "root": str(tmp_path / "r"),
        "url": "",
        "branch": "trunk",
        "head": "",
    }


def test_a_detached_checkout_has_no_branch(tmp_path: Path) -> None:
    repo = new_repository(tmp_path / "r")
    git(repo, "checkout", "-q", "--detach")
    found = repository(repo)
    assert found is not None
    assert found["branch"] == ""


def test_a_plain_folder_has_no_repository(tmp_path: Path) -> None:
    assert repository(tmp_path) is None


def test_a_machine_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OjError, match=r"No such file or directory: git") as caught:
        repository(tmp_path)
    assert "install git" in caught.value.hint


def test_a_repository_that_git_refuses_is_not_taken_for_none(tmp_path: Path) -> None:
    repo = new_repository(tmp_path / "it's")
    (repo / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(OjError, match="not a git repository") as caught:
        repository(repo)
    assert caught.value.hint == f"git -C '{tmp_path}/it'\"'\"'s' status"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://token@host/x", "https://host/x"),
        ("https://a:b@host:8443/x@y", "https://host:8443/x@y"),
        ("https://host/a@b", "https://host/a@b"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("ssh://git:pw@host/x", "ssh://host/x"),
        ("git@host:x/y.git", "git@host:x/y.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("", ""),
    ],
)
def test_credentials_do_not_travel(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
