from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from oj_daemon.store.files import copy_aside, replace_file, store_error, write_all


def test_a_write_that_stops_short_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
        write_all(fd, b"0123456789")
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_replacement_that_fails_leaves_the_old_contents_and_no_scratch(small_disk: Path) -> None:
    path = small_disk / "file"
    replace_file(path, b"old", durable=True)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, bytes(1_000_000), durable=True)
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


def test_copies_are_numbered_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in range(12):
        path.write_bytes(b"head%d" % number)
        copy_aside(path, "torn", start=4)
    names = {found.name: found.read_bytes() for found in tmp_path.iterdir() if found != path}
    assert names == {"log.torn-10": b"9", "log.torn-11": b"10", "log.torn-12": b"11"}


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "full", "no space left"),
        (errno.EDQUOT, "full", "no space left"),
        (errno.EROFS, "readonly", "read-only"),
        (errno.EACCES, "denied", "permission denied (owned by "),
        (errno.EIO, "io", "Input/output error"),
    ],
)
def test_an_error_of_the_file_system_names_file_cause_and_remedy(
    tmp_path: Path, number: int, code: str, words: str
) -> None:
    error = store_error(OSError(number, os.strerror(number)), "write", tmp_path)
    assert error.code == code
    assert error.message.startswith(f"cannot write {tmp_path}: ")
    assert words in error.message
    assert error.hint
