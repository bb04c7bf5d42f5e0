from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oj_daemon.errors import StoreError
from oj_daemon.store import files, logs
from oj_daemon.store.logs import LogBook, LogSlice, read_log

AT = 1_795_502_228_999
STAMP = "2026-11-24T06:37:08Z"
LIMIT = 20_000_000


def content(book: LogBook) -> list[str]:
    return book.path("job-1").read_text().splitlines()


def texts(book: LogBook, step: str) -> list[str]:
    prefix = f"{STAMP} [{step}] "
    return [line.removeprefix(prefix) for line in content(book) if line.startswith(prefix)]


# Lines


def test_a_line_carries_time_and_step(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    book.line("job-1", "build", "started é", AT)
    book.line("job-1", "test#2", "two\nlines", AT)
    book.line("job-1", "test#2", "", AT)
    assert content(book) == [
        f"{STAMP} [build] started é",
        f"{STAMP} [test#2] two",
        f"{STAMP} [test#2] lines",
        f"{STAMP} [test#2] ",
    ]
    assert book.path("job-1").stat().st_mode & 0o777 == 0o600


def test_output_is_copied_line_by_line_as_it_comes(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    copier = book.copier("job-1", "run-1", "build", raw, limit=LIMIT)
    assert copier.pump(AT) == 0  # nothing was written yet
    with raw.open("ab", buffering=0) as output:
        output.write(b"one\ntw")
        assert copier.pump(AT) == 4
        assert copier.pump(AT) == 0
        output.write(b"o\n\n\ttabs \x1b[31mred\x1b[0m\r\nlast")
        copier.pump(AT)
    assert book.path("job-1").read_bytes().decode().count("\n") == 4
    copier.finish(AT)
    assert book.path("job-1").read_bytes().decode() == "".join(
        f"{STAMP} [build] {text}\n"
        for text in ["one", "two", "", "\ttabs \x1b[31mred\x1b[0m\r", "last"]
    )


def test_bytes_that_are_no_text_are_replaced_and_the_rest_is_kept(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    raw.write_bytes(b"a\xffb \xe2\x82\n\xe2\x82\xac\n\0nul\n\xed\xa0\x80\n")
    book.copier("job-1", "run-1", "s", raw, limit=LIMIT).finish(AT)
    assert texts(book, "s") == ["a\ufffdb \ufffd", "€", "\0nul", "\ufffd\ufffd\ufffd"]


def test_overlong_lines_are_cut_between_characters(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    text = "x" + "€" * 100_000
    raw.write_bytes(f"short\n{text}\nshort\n{text}".encode())
    book.copier("job-1", "run-1", "s", raw, limit=LIMIT).finish(AT)
    pieces = texts(book, "s")
    assert "".join(pieces) == f"short{text}short{text}"
    assert max(len(piece.encode()) for piece in pieces) <= logs.LONGEST_LINE
    assert len(pieces) <= 2 + 2 * 6


def test_one_pump_reads_a_bounded_amount(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    raw.write_bytes(b"0123456\n" * 100_000)
    copier = book.copier("job-1", "run-1", "s", raw, limit=LIMIT)
    steps = list(iter(lambda: copier.pump(AT), 0))
    assert sum(steps) == 800_000
    assert max(steps) <= logs.PUMP_BYTES
    assert texts(book, "s") == ["0123456"] * 100_000


def test_beyond_the_limit_one_line_says_so_and_the_rest_is_dropped_also_after_a_restart(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "output"
    raw.write_bytes(b"0123456\n" * 20)
    for _ in range(2):
        copier = LogBook(tmp_path / "logs").copier("job-1", "run-1", "s", raw, limit=44)
        while copier.pump(AT):
            pass
        with raw.open("ab") as output:
            output.write(b"more\n")
        copier.finish(AT)
    assert texts(LogBook(tmp_path / "logs"), "s") == [
        *["0123456"] * 5,
        "output limit of 44 bytes reached; the rest is not kept",
    ]


def test_output_of_exactly_the_limit_is_kept_whole(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    raw.write_bytes(b"0123456\n" * 5)
    book.copier("job-1", "run-1", "s", raw, limit=40).finish(AT)
    assert texts(book, "s") == ["0123456"] * 5


@pytest.mark.skipif(sys.platform != "linux", reason="holes are punched on Linux only")
@pytest.mark.parametrize("limit", [10**9, 1000])
def test_raw_output_that_was_dealt_with_gives_its_disk_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(logs, "PUNCH_BYTES", 64 * 1024)
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    copier = book.copier("job-1", "run-1", "s", raw, limit=limit)
    with raw.open("ab", buffering=0) as output:
        for number in range(16):
            output.write(b"%06d\n" % number * 20_000)
            os.fsync(output.fileno())
            while copier.pump(AT):
                pass
    copier.pump(AT)
    found = raw.stat()
    assert found.st_size == 16 * 140_000
    if found.st_blocks * 512 >= found.st_size:
        pytest.skip("this file system cannot punch holes")
    assert found.st_blocks * 512 <= 3 * 64 * 1024
    if limit > 1000:
        assert texts(book, "s") == [f"{number:06d}" for number in range(16) for _ in range(20_000)]


# Exactly once


class Killed(BaseException):
    """The process ended here."""


class Killer:
    """Ends the process before, after or in the middle of its n-th change to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.when = ""
        self._write_all, self._replace_file = files.write_all, files.replace_file
        monkeypatch.setattr(logs, "write_all", self._kill_write)
        monkeypatch.setattr(logs, "replace_file", self._kill_replace)

    def arm(self, left: int, when: str) -> None:
        self.left, self.when = left, when

    def _due(self) -> bool:
        self.left -= 1
        return self.left == -1

    def _kill_write(self, fd: int, data: bytes) -> None:
        if not self._due():
            self._write_all(fd, data)
            return
        share = {
            "before": 0,
            "early": 1,
            "middle": len(data) // 2,
            "late": len(data) - 1,
            "after": len(data),
        }
        self._write_all(fd, data[: share[self.when]])
        raise Killed

    def _kill_replace(self, path: Path, data: bytes, *, durable: bool) -> None:
        if not self._due():
            self._replace_file(path, data, durable=durable)
            return
        if self.when == "after":
            self._replace_file(path, data, durable=durable)
        elif self.when != "before":
            path.with_name(path.name + ".tmp").write_bytes(data[: len(data) // 2])
        raise Killed


PARTS = [b"a1\na2\na", b"3\na4\n", b"a5\na6\na7 no line end"]


def life(folder: Path) -> None:
    """One life of a daemon: copies two runs, with lines of its own in between."""
    book = LogBook(folder / "logs")
    one = book.copier("job-1", "run-1", "one", folder / "one", limit=LIMIT)
    two = book.copier("job-1", "run-2", "two", folder / "two", limit=12)
    for number, part in enumerate(PARTS):
        book.line("job-1", "one", f"daemon line {number}", AT)
        for name in ("one", "two"):  # the steps write on, whether or not there is a daemon
            written = (folder / name).read_bytes() if (folder / name).exists() else b""
            if len(written) < sum(map(len, PARTS[: number + 1])):
                (folder / name).write_bytes(written + part)
        one.pump(AT)
        two.pump(AT)
    one.finish(AT)
    two.finish(AT)
    one.finish(AT)


@pytest.mark.parametrize("when", ["before", "early", "middle", "late", "after"])
def test_every_line_is_copied_once_whenever_the_daemon_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    killer = Killer(monkeypatch)
    kills = 0
    killer.arm(-1, when)
    tmp_path.joinpath("undisturbed").mkdir()
    life(tmp_path / "undisturbed")
    changes = -1 - killer.left
    for first in range(changes + 1):
        for second in (-1, 0, 1, 2, 4):
            folder = tmp_path / f"{first}-{second}"
            folder.mkdir()
            for left in (first, second):
                killer.arm(left, when)
                try:
                    life(folder)
                except Killed:
                    kills += 1
            killer.arm(-1, when)
            life(folder)
            book = LogBook(folder / "logs")
            copied = [text for text in texts(book, "one") if not text.startswith("daemon line")]
            assert copied == ["a1", "a2", "a3", "a4", "a5", "a6", "a7 no line end"], (first, second)
            limit = "output limit of 12 bytes reached; the rest is not kept"
            assert texts(book, "two") == ["a1", "a2", "a3", "a4", limit], (first, second)
            assert all(line.startswith(STAMP) for line in content(book))
    assert kills > changes


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    parts=st.lists(
        st.binary(max_size=12) | st.sampled_from([b"\n", b"line\n", b"\xe2\x82"]), max_size=12
    ),
    kills=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["before", "middle", "after"])), max_size=4
    ),
)
def test_what_is_copied_is_what_was_written_for_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], kills: list[tuple[int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    raw = folder / "output"
    with pytest.MonkeyPatch.context() as monkeypatch:
        killer = Killer(monkeypatch)
        lives = iter([*kills, (-1, "")])
        copier = None
        for part in [*parts, None]:
            if part is not None:
                with raw.open("ab") as output:
                    output.write(part)
            while True:
                try:
                    if copier is None:
                        killer.arm(*next(lives))
                        copier = LogBook(folder / "logs").copier(
                            "job-1", "run", "s", raw, limit=LIMIT
                        )
                    copier.pump(AT)
                    if part is None:
                        copier.finish(AT)
                    break
                except Killed:
                    copier = None
    written = b"".join(parts)
    lines = written.removesuffix(b"\n").split(b"\n") if written else []
    prefix = f"{STAMP} [s] ".encode()
    expected = b"".join(prefix + line + b"\n" for line in lines).decode("utf-8", "replace")
    path = folder / "logs" / "job-1.log"
    assert (path.read_bytes().decode() if path.exists() else "") == expected


def test_a_disk_that_was_full_for_a_while_costs_no_line_and_repeats_none(
    tmp_path: Path, small_disk: Path
) -> None:
    folder, filler, raw = small_disk / "logs", small_disk / "filler", tmp_path / "output"
    book = LogBook(folder)
    copier = book.copier("job-1", "run-1", "s", raw, limit=LIMIT)
    raw.write_bytes(b"".join(b"%04d\n" % number for number in range(2000)))
    copier.pump(AT)
    with raw.open("ab") as output:
        output.write(b"".join(b"%04d\n" % number for number in range(2000, 2800)))
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes((free.f_bavail - 3) * free.f_bsize))
    with pytest.raises(StoreError, match="no space left"):
        copier.pump(AT)
    book.line("job-1", "s", "short enough", AT)
    book = LogBook(folder)  # and then it was killed
    filler.unlink()
    book.copier("job-1", "run-1", "s", raw, limit=LIMIT).finish(AT)
    copied = texts(book, "s")
    assert "short enough" in copied
    assert [text for text in copied if text != "short enough"] == [
        f"{number:04d}" for number in range(2800)
    ]


def test_a_settled_run_takes_no_more_room_in_the_cursor(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    raw.write_bytes(b"x\n")
    for number in range(50):
        copier = book.copier("job-1", f"run-{number}", "s", raw, limit=LIMIT)
        copier.finish(AT)
        book.forget("job-1", f"run-{number}")
    assert (tmp_path / "logs" / "job-1.cursor").stat().st_size < 300
    assert len(texts(book, "s")) == 50


def test_of_a_job_that_is_closed_only_the_log_stays(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    raw.write_bytes(b"x\n")
    book.copier("job-1", "run-1", "s", raw, limit=LIMIT).finish(AT)
    book.close("job-1")
    book.close("job-1")
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["job-1.log"]
    book.line("job-1", "s", "y", AT)
    assert texts(book, "s") == ["x", "y"]


def test_removing_a_job_removes_its_log_and_cursor(tmp_path: Path) -> None:
    book, raw = LogBook(tmp_path / "logs"), tmp_path / "output"
    raw.write_bytes(b"x\n")
    book.copier("job-1", "run-1", "s", raw, limit=LIMIT).finish(AT)
    book.line("job-2", "s", "stays", AT)
    book.remove("job-1")
    book.remove("job-1")
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["job-2.log"]


WRITER = """
import sys
from pathlib import Path
from oj_daemon.store.logs import LogBook
folder = Path(sys.argv[1])
book = LogBook(folder / "logs")
copier = book.copier("job-1", "run-1", "s", folder / "output", limit=10**9)
with (folder / "output").open("ab", buffering=0) as output:
    number = output.tell() // 8
    while True:
        output.write(b"".join(b"%07d\\n" % (number + more) for more in range(50)))
        number += 50
        if copier.pump(1795502228999):
            print(number, flush=True)
        book.line("job-1", "daemon", "tick", 1795502228999)
"""


def test_lines_are_copied_once_by_daemons_that_are_really_killed(tmp_path: Path) -> None:
    for lines in (1, 7, 30):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            process.kill()
    book = LogBook(tmp_path / "logs")
    book.copier("job-1", "run-1", "s", tmp_path / "output", limit=10**9).finish(AT)
    total = (tmp_path / "output").stat().st_size // 8
    assert texts(book, "s")[:total] == [f"{number:07d}" for number in range(total)]


# Reading


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes("one\ntwo €\nthree\n".encode())
    return path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(None, "one\ntwo €\nthree\n"), (0, "one\ntwo €\nthree\n"), (1, "three\n"), (2, "two €\nthree\n"),
     (3, "one\ntwo €\nthree\n"), (99, "one\ntwo €\nthree\n")],
)  # fmt: skip
def test_the_last_lines_are_read(log: Path, lines: int | None, expected: str) -> None:
    assert read_log(log, lines=lines) == LogSlice(expected, 18)


def test_a_tail_across_many_blocks_and_an_unfinished_last_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    numbers = [f"{number:06d}\n" for number in range(60_000)]
    path.write_text("".join(numbers) + "unfinished")
    assert read_log(path, lines=1).content == "unfinished"
    assert read_log(path, lines=30_001).content == "".join(numbers[30_000:]) + "unfinished"


def test_reading_goes_on_from_an_offset_and_leaves_half_a_character(log: Path) -> None:
    whole = log.read_bytes()
    for cut in range(len(whole) + 1):
        log.write_bytes(whole[:cut])
        first = read_log(log, offset=0)
        log.write_bytes(whole)
        second = read_log(log, offset=first.offset)
        assert first.content + second.content == whole.decode(), cut
        assert "\ufffd" not in first.content
        assert second.offset == len(whole)
    assert read_log(log, offset=len(whole)) == LogSlice("", len(whole))


def test_a_file_shorter_than_the_offset_is_read_again_and_says_so(log: Path) -> None:
    assert read_log(log, offset=1000) == LogSlice("one\ntwo €\nthree\n", 18, was_restarted=True)
    log.unlink()
    assert read_log(log, offset=1000) == LogSlice("", 0, was_restarted=True)
    assert read_log(log, lines=5) == LogSlice("", 0)


def test_a_large_log_is_read_in_pieces(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "READ_BYTES", 6)
    pieces = [read_log(log)]
    while pieces[-1].has_more:
        pieces.append(read_log(log, offset=pieces[-1].offset))
    assert "".join(piece.content for piece in pieces) == "one\ntwo €\nthree\n"
    assert len(pieces) == 3
