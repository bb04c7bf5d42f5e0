from __future__ import annotations

from typing import Any

from oj_tui import render_daemon
from tests.support.replies import JOB, NOW, Message, reply, summary, workspace


def info(**changes: object) -> Message:
    fields: Message = {
        "status": "running", "version": "1.2.3", "protocol": 1, "pid": 42, "uptime_secs": 65, "uptime": "1m 5s",
        "jobs_active": 3, "orphan_count": 0, "state_dir": "/state", "profile": "workstation", "epoch": 4, "seq": 99,
        "settings": [{"name": "runtime", "value": "local", "reason": "no container is named"}],
    }  # fmt: skip
    return reply("DaemonInfo", **{**fields, **changes})


def text(rows: list[tuple[str, list[tuple[str, str]]]]) -> list[str]:
    return ["".join(piece for piece, _ in line) for _, line in rows]


def test_health_is_told_with_each_setting_and_its_reason() -> None:
    assert text(render_daemon.health(info(), 80)) == [
        "Status         ● running",
        "Version        1.2.3",
        "Ready          ✓ yes",
        "Uptime         1m 5s",
        "Jobs           3 active",
        "Profile        workstation",
        "PID            42",
        "State          /state",
        "Record         99 of epoch 4",
        "",
        "Settings",
        "runtime  local  because no container is named",
    ]
    assert text(render_daemon.health(info(), 40))[-2:] == [
        "runtime  local",
        "         because no container is named",
    ]


def test_what_is_not_well_is_told_in_words_that_are_broken_at_the_edge() -> None:
    rows = render_daemon.health(
        info(
            ready=False,
            waits_for=["lease: another daemon has it until it ends"],
            warnings=["the disk is nearly full"],
            notifications_waiting=2,
            address="tls://10.0.0.1:7777",
            tls_fingerprint="ab" * 16,
            settings=[],
        ),
        47,
    )
    assert text(rows)[2:6] == [
        "Ready          ✗ no",
        "  waits for    lease: another daemon has it",
        "               until it ends",
        "Uptime         1m 5s",
    ]
    assert text(rows)[-5:] == [
        "Address        tls://10.0.0.1:7777",
        "Fingerprint    " + "ab" * 16,
        "Notifications  2 waiting: nobody could be told",
        "               yet",
        "Warning        the disk is nearly full",
    ]
    assert ("✗ no", "bad") in rows[2][1]


def test_a_token_for_less_than_the_daemon_is_told_why_there_is_not_more() -> None:
    assert text(render_daemon.health(info(state_dir=""), 80)) == [
        "Status         ● running",
        "Version        1.2.3",
        "",
        "This token may not know more: it is not for the daemon itself.",
    ]


def test_what_is_not_known_yet_and_why_is_said() -> None:
    assert text(render_daemon.health(None, 80)) == ["asking the daemon ..."]
    assert text(render_daemon.health(None, 80, trouble="nobody there")) == [
        "Trouble        nobody there"
    ]


def test_a_place_is_told_with_its_owner_and_its_diagnosis() -> None:
    pod = workspace(status="creating", place="oj-4f", waits_for="image\x07 pull failed")
    jobs: dict[str, Any] = {JOB: summary()}
    assert render_daemon.place_row(pod, jobs, NOW) == [
        ("pod oj-4f", "name"),
        ("worktree", "muted"),
        ("• creating", "busy"),
        ("fix-login", ""),
        ("● running", "busy"),
        ("shop", "muted"),
        ("1h", "muted"),
        ("image^G pull failed", "warn"),
    ]
    folder = render_daemon.place_row(workspace(owner_status="", reason="kept"), {}, NOW)
    assert [piece for piece, _ in folder] == [
        "wks-8a7b6c5d4e3f2g1h", "worktree", "• ready", "4f9h2k7m", "-", "shop", "1h", "kept",
    ]  # fmt: skip


def test_places_that_wait_come_first_then_the_newest() -> None:
    waiting = workspace(waits_for="x", created_at_ms=1)
    old, new = workspace(created_at_ms=2), workspace(created_at_ms=3)
    assert sorted([old, waiting, new], key=render_daemon.place_order) == [waiting, new, old]


def test_lines_of_its_log_have_the_colour_of_their_level() -> None:
    line = "2026-01-02T03:04:05.678Z WARNING oj_daemon.engine: slow"
    assert render_daemon.log_line(line) == [
        ("2026-01-02T03:04:05.678Z ", "muted"),
        ("WARNING ", "warn"),
        ("oj_daemon.engine: ", "muted"),
        ("slow", "warn"),
    ]
    assert render_daemon.log_line('{"level": "ERROR", "x": 1}') == [
        ('{"level": "ERROR", "x": 1}', "bad")
    ]
    assert render_daemon.log_line("  traceback") == [("  traceback", "")]
