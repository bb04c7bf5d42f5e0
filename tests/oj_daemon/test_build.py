"""The commit is read from every kind of checkout, without git's help and without ever raising."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from oj_daemon.build import HASH_LENGTH, is_hash, read_git_hash


def git(folder: Path, *words: str) -> str:
    """Run git without any configuration of this machine."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit on a branch with a slash in its name."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "topic/one")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD")[:HASH_LENGTH]


def test_a_branch_is_followed_to_its_loose_reference(repository: Path) -> None:
    assert read_git_hash(repository) == head(repository)


def test_a_packed_reference_is_found(repository: Path) -> None:
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/topic/one").exists()
    assert read_git_hash(repository) == head(repository)


def test_a_loose_reference_is_newer_than_a_packed_one(repository: Path) -> None:
    git(repository, "pack-refs", "--all")
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    assert read_git_hash(repository) == head(repository)


def test_a_detached_head_is_the_commit_itself(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    assert read_git_hash(repository) == head(repository)


@pytest.mark.parametrize("packed", [False, True])
def test_a_linked_worktree_has_its_own_head_and_shared_references(
    repository: Path, tmp_path: Path, packed: bool
) -> None:
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "-q", "-b", "other", str(linked))
    git(linked, "commit", "-q", "--allow-empty", "-m", "in the worktree")
    if packed:
        git(repository, "pack-refs", "--all")
    assert read_git_hash(linked) == head(linked)
    assert read_git_hash(linked) != read_git_hash(repository)


def test_a_symbolic_reference_to_a_branch_is_followed(repository: Path) -> None:
    git(repository, "symbolic-ref", "refs/heads/alias", "refs/heads/topic/one")
    git(repository, "symbolic-ref", "HEAD", "refs/heads/alias")
    assert read_git_hash(repository) == head(repository)


def test_references_that_point_in_a_circle_are_given_up(repository: Path) -> None:
    (repository / ".git/refs/heads/topic/one").write_text("ref: refs/heads/topic/one\n")
    assert read_git_hash(repository) is None


def test_a_repository_without_a_commit_has_no_hash(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert read_git_hash(tmp_path) is None


def test_a_folder_inside_a_checkout_is_not_the_checkout(repository: Path) -> None:
    inside = repository / "lib" / "site-packages"
    inside.mkdir(parents=True)
    assert read_git_hash(inside) is None


@pytest.mark.parametrize(
    "content", [b"", b"gitdir: /nowhere/at/all\n", b"\xff\xfe", b"something else\n"]
)
def test_a_broken_git_file_has_no_hash(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".git").write_bytes(content)
    assert read_git_hash(tmp_path) is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"ref:", b"ref: ../../../../etc/passwd\n", b"not a hash\n"]
)
def test_a_broken_head_has_no_hash(repository: Path, content: bytes) -> None:
    (repository / ".git/HEAD").write_bytes(content)
    assert read_git_hash(repository) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3f9c2ab", True),
        ("0" * 40, True),
        ("0" * 64, True),
        ("0" * 65, False),
        ("3f9c2a", False),
        ("3F9C2AB", False),
        ("", False),
    ],
)
def test_a_hash_is_7_to_64_lower_case_hexadecimal_digits(text: str, expected: bool) -> None:
    assert is_hash(text) is expected
