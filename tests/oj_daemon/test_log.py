"""Tests of oj_daemon/log.py."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_daemon import log
from oj_daemon.core.effects import KillAgent
from oj_daemon.errors import StoreError
from oj_daemon.settings import START_MARKER, Settings, load
from oj_daemon.wire.names import AgentId, JobId

logger = logging.getLogger("oj_daemon.test")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    log.tear_down()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def settings(folder: Path, **environ: str) -> Settings:
    return load({"OJ_STATE_DIR": str(folder), **environ})


def set_up(config: Settings) -> None:
    log.set_up(config, version="1.0+abc", pid=7)


def test_a_text_log_begins_with_the_start_marker(tmp_path: Path) -> None:
    set_up(settings(tmp_path))
    logger.info("hello %s", "you", extra={"job": "job-1"})
    first, second = (tmp_path / "daemon.log").read_text().splitlines()
    assert re.fullmatch(rf"{START_MARKER} 1\.0\+abc pid=7 {TIME} ---", first)
    assert re.fullmatch(rf"{TIME} INFO oj_daemon\.test: hello you  job=job-1", second)


def test_the_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    set_up(settings(tmp_path))
    assert (tmp_path / "daemon.log").stat().st_mode & 0o777 == 0o600


def test_lines_after_the_first_of_a_record_cannot_be_taken_for_records(tmp_path: Path) -> None:
    set_up(settings(tmp_path))
    logger.error("one\n--- oj daemon start of somebody else")
    lines = (tmp_path / "daemon.log").read_text().splitlines()
    assert lines[2] == "    --- oj daemon start of somebody else"


def test_a_large_log_is_rotated_at_the_start_and_three_old_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    for number in range(6):
        path.write_bytes(b"%d" % number * log.MAX_BYTES)
        set_up(settings(tmp_path))
        log.tear_down()
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "daemon.log",
        "daemon.log.1",
        "daemon.log.2",
        "daemon.log.3",
    ]
    assert path.read_text().startswith(START_MARKER)
    assert (tmp_path / "daemon.log.1").read_bytes()[:1] == b"5"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_small_log_is_added_to(tmp_path: Path) -> None:
    set_up(settings(tmp_path))
    log.tear_down()
    set_up(settings(tmp_path))
    assert (tmp_path / "daemon.log").read_text().count(START_MARKER) == 2


def test_in_a_cluster_each_record_is_one_json_object_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(settings(tmp_path, OJ_PROFILE="cluster"))
    try:
        raise ValueError("no\ngood")
    except ValueError:
        logger.exception("line one\nline two", extra={"job": "job-1", "ms": 3})
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert re.fullmatch(TIME, entry.pop("time"))
    assert entry.pop("exception").startswith("Traceback")
    assert entry == {
        "level": "error",
        "logger": "oj_daemon.test",
        "message": "line one\nline two",
        "job": "job-1",
        "ms": 3,
    }
    assert list(tmp_path.iterdir()) == []


def test_format_and_place_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(settings(tmp_path, OJ_LOG_FORMAT="json"))
    logger.info("in the file")
    assert json.loads((tmp_path / "daemon.log").read_text())["message"] == "in the file"
    set_up(settings(tmp_path, OJ_LOG_STDOUT="1"))
    logger.info("on stdout")
    assert "INFO oj_daemon.test: on stdout" in capsys.readouterr().out


def test_the_level_can_be_chosen(tmp_path: Path) -> None:
    set_up(settings(tmp_path, OJ_LOG="error"))
    logger.warning("quiet")
    logger.error("loud")
    text = (tmp_path / "daemon.log").read_text()
    assert "quiet" not in text
    assert "loud" in text


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_token_never_gets_into_the_log(tmp_path: Path, form: str) -> None:
    set_up(settings(tmp_path, OJ_AUTH_TOKEN="hunter2", OJ_LOG_FORMAT=form))
    logger.info("got %s", "hunter2", extra={"header": "Bearer hunter2"})
    try:
        raise ValueError("hunter2")
    except ValueError:
        logger.exception("failed")
    text = (tmp_path / "daemon.log").read_text()
    assert "hunter2" not in text
    assert "got ***" in text


def test_text_that_utf8_cannot_carry_is_still_logged(tmp_path: Path) -> None:
    set_up(settings(tmp_path))
    logger.info("name-%s", "\udcff")
    assert "name-\\udcff" in (tmp_path / "daemon.log").read_text()


def test_a_log_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").mkdir()
    with pytest.raises(StoreError, match=r"^open the log .*daemon\.log: Is a directory$"):
        set_up(settings(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_log_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"^write to the log: No space left on device$"):
        set_up(settings(tmp_path))


def test_warnings_of_libraries_go_to_the_log(tmp_path: Path) -> None:
    import warnings  # noqa: PLC0415 - patched by the code under test

    set_up(settings(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "WARNING py.warnings: " in (tmp_path / "daemon.log").read_text()


def test_a_closed_stdout_does_not_end_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    set_up(settings(tmp_path, OJ_LOG_STDOUT="1"))
    logger.info("nobody hears this")
    assert "nobody hears this" in capsys.readouterr().err


def test_a_record_about_an_order_names_what_it_is_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(settings(tmp_path, OJ_PROFILE="cluster"))
    order = KillAgent(agent_id=AgentId("agt-1"), job_id=JobId("job-2"), runtime="local", route={})
    logger.warning("no luck", extra=log.ids(order))
    said = json.loads(capsys.readouterr().out)
    assert (said["message"], said["job"], said["agent"]) == ("no luck", "job-2", "agt-1")
    assert "workspace" not in said


def test_a_record_that_cannot_be_told_is_no_error_of_who_wrote_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    kept = log.Kept()
    kept.setFormatter(log.TextFormatter())
    kept.handle(logging.LogRecord("oj", logging.INFO, "", 1, "%d things", ("many",), None))
    kept.handle(logging.LogRecord("oj", logging.INFO, "", 1, "all is well", (), None))
    text, count = kept.read(lines=None, offset=None)
    assert (text.count("\n"), count) == (1, 1)
    assert text.endswith("all is well\n")
