"""Reading a project's texts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oj_daemon.runbook import sources


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Reading


def test_runbooks_and_libraries_are_read_in_path_order(tmp_path: Path) -> None:
    root, state = tmp_path / "p", tmp_path / "s"
    write(root / ".oj" / "runbooks" / "b.hcl", "b")
    write(root / ".oj" / "runbooks" / "a" / "z.toml", "z")
    write(root / ".oj" / "runbooks" / "a.json", "{}")
    write(root / ".oj" / "runbooks" / "README.md", "no runbook")
    write(root / ".oj" / "runbooks" / ".hidden" / "x.hcl", "no runbook")
    write(root / ".oj" / "libraries" / "team" / "ci" / "x.hcl", "x")
    write(root / ".oj" / "libraries" / "team" / "ci" / "x.toml", "libraries are HCL")
    write(state / "libraries" / "mine" / "y.hcl", "y")
    found = sources.read(root, state)
    assert list(found.files.items()) == [
        (".oj/runbooks/a.json", "{}"),
        (".oj/runbooks/a/z.toml", "z"),
        (".oj/runbooks/b.hcl", "b"),
        (".oj/libraries/team/ci/x.hcl", "x"),
        ("~/libraries/mine/y.hcl", "y"),
    ]
    assert found.unreadable == []


def test_a_project_without_runbooks_has_no_texts(tmp_path: Path) -> None:
    assert sources.read(tmp_path, tmp_path / "state") == sources.Sources()


def test_a_file_that_is_not_text_is_reported_and_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path / ".oj" / "runbooks" / "a.hcl").write_bytes(
        b'command "a" {\n  run = "\xff"\n}\n'
    )
    write(tmp_path / ".oj" / "runbooks" / "b.hcl", "b")
    found = sources.read(tmp_path)
    assert list(found.files) == [".oj/runbooks/b.hcl"]
    assert found.unreadable == [
        sources.Unreadable(".oj/runbooks/a.hcl", "not UTF-8 text (byte 0xff in line 2, column 10)")
    ]


def test_a_file_that_is_too_large_is_reported(tmp_path: Path) -> None:
    write(tmp_path / ".oj" / "runbooks" / "a.hcl", "#" * (sources.MAX_FILE_BYTES + 1))
    found = sources.read(tmp_path)
    assert found.files == {}
    assert found.unreadable == [sources.Unreadable(".oj/runbooks/a.hcl", "larger than 1000 kB")]


def test_all_files_together_have_a_limit(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / ".oj" / "runbooks" / f"{number}.hcl", "#" * sources.MAX_FILE_BYTES)
    found = sources.read(tmp_path)
    assert len(found.files) == 8
    assert [each.path for each in found.unreadable] == [".oj/runbooks/8.hcl"]


def test_a_pipe_and_a_dangling_link_do_not_block(tmp_path: Path) -> None:
    folder = tmp_path / ".oj" / "runbooks"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "a.hcl")
    (folder / "b.hcl").symlink_to("nowhere")
    found = sources.read(tmp_path)
    assert [(each.path, each.reason) for each in found.unreadable] == [
        (".oj/runbooks/a.hcl", "not a file"),
        (".oj/runbooks/b.hcl", "file not found"),
    ]


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    folder = tmp_path / ".oj" / "runbooks"
    write(folder / "a.hcl", "a")
    (folder / "loop").symlink_to(folder)
    found = sources.read(tmp_path)
    assert found.files[".oj/runbooks/a.hcl"] == "a"
    assert len(found.files) <= sources.MAX_DEPTH + 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_reported(tmp_path: Path) -> None:
    write(tmp_path / ".oj" / "runbooks" / "a.hcl").chmod(0)
    assert sources.read(tmp_path).unreadable == [
        sources.Unreadable(".oj/runbooks/a.hcl", "permission denied")
    ]


def test_one_file_is_read_under_the_name_it_was_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x.hcl", "x")
    assert sources.read_file(path, "./x.hcl").files == {"./x.hcl": "x"}
    assert sources.read_file(tmp_path / "y.hcl", "y.hcl").unreadable == [
        sources.Unreadable("y.hcl", "file not found")
    ]


# The environment


def test_names_that_texts_read_from_the_environment() -> None:
    texts = ["${A:-x} ${b.c:-y} $${D:-z}", "${A:-} ${E_1:-} ${F} ${G:0:5}"]
    assert sources.env_names(texts) == {"A", "E_1"}
    assert sources.env_values(texts, {"A": "1", "G": "2", "PATH": "3"}) == {"A": "1"}


def test_the_command_line_pays_for_the_standard_library_only() -> None:
    code = (
        "import sys; from oj_daemon.runbook import sources; "
        "heavy = {'msgspec', 'tomllib', 'subprocess', 'asyncio', 'tree_sitter', 'json'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
