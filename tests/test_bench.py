"""The harness of scripts/bench alternates fairly, judges goals both ways, and never hides what it could not measure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oj_bench import __main__ as program
from oj_bench import daemon, harness, peers, states


def result(
    ours: float, other: float, goal: float | None, better: harness.Better = "lower"
) -> harness.Result:
    return harness.Result("P0", "a", "b", "ms", ours, other, goal, better)


def test_rounds_alternate_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def contender(name: str) -> Callable[[], harness.Sample]:
        def run() -> harness.Sample:
            order.append(name)
            return harness.Sample(float(len(order)), 0.0)

        return run

    taken = harness.interleave({"a": contender("a"), "b": contender("b")}, 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert [sample.wall for sample in taken["a"]] == [3.0, 6.0]


@pytest.mark.parametrize(
    ("ours", "other", "goal", "better", "met"),
    [
        (11, 10, 1.1, "lower", True),
        (12, 10, 1.1, "lower", False),
        (50, 10, 5, "higher", True),
        (49, 10, 5, "higher", False),
    ],
)
def test_a_goal_is_a_bound_of_the_ratio(
    ours: float, other: float, goal: float, better: harness.Better, met: bool
) -> None:
    assert result(ours, other, goal, better).met is met


def test_a_line_without_goal_or_figure_is_neither_met_nor_missed() -> None:
    assert result(1, 1, None).met is None
    assert harness.Result("P0", "a", "b", goal=1.0).met is None


def test_a_program_that_ends_otherwise_than_expected_is_no_figure() -> None:
    run = harness.timed_command([sys.executable, "-c", "raise SystemExit(3)"], {})
    with pytest.raises(harness.RowError, match="ended with 3 instead of 0"):
        run()


def test_the_time_of_a_program_includes_its_cpu() -> None:
    sample = harness.timed_command([sys.executable, "-c", "sum(range(100000))"], {})()
    assert sample.wall > 0
    assert sample.cpu > 0


def test_a_row_that_cannot_run_and_a_missing_peer_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_bench: harness.Bench) -> list[harness.Result]:
        raise harness.RowError("there is no daemon")

    monkeypatch.setattr(harness, "broken", broken, raising=False)
    monkeypatch.setitem(program.ROWS, "P99", ("oj_bench.harness:broken", "x"))
    monkeypatch.setattr(peers, "missing", lambda _root: ["nq"])
    report = tmp_path / "report.json"
    assert program.main(["--root", str(tmp_path), "p99", "--json", str(report)]) == 1
    out = capsys.readouterr().out
    assert "P99: there is no daemon" in out
    assert "not installed (scripts/bench --peers): nq" in out
    written = json.loads(report.read_text())
    assert (written["not_measured"], written["missing_peers"]) == (
        {"P99": "there is no daemon"},
        ["nq"],
    )
    assert list((tmp_path / ".bench").iterdir()) == []


def test_the_table_shows_a_missed_goal() -> None:
    assert "1.20 x  -    <= 1.1 x  NOT MET" in program.table([result(12, 10, 1.1)])


@pytest.mark.parametrize("name", program.ROWS)
def test_every_row_leads_to_a_function(name: str) -> None:
    module, _, attribute = program.ROWS[name][0].partition(":")
    assert callable(getattr(__import__(module, fromlist=["_"]), attribute))


def bench(tmp_path: Path) -> harness.Bench:
    made = harness.Bench(Path(__file__).resolve().parents[1], tmp_path, quick=True)
    made.python = sys.executable
    return made


def test_a_synthetic_state_folder_is_one_that_a_daemon_starts_on(tmp_path: Path) -> None:
    state = states.make(tmp_path / "s", finished=3, live=2, kind="three")
    with daemon.Daemon(bench(tmp_path), state) as running, running.client() as client:
        jobs = client.call("JobList", limit=None)["jobs"]
        assert sorted(job["status"] for job in jobs) == ["completed"] * 3 + ["running"] * 2
        assert {job["step_status"] for job in jobs} == {"completed", "pending"}
        assert running.memory() > 0
        assert running.start_cpu > 0


def test_jobs_of_the_bench_run_and_their_daemon_is_gone_afterwards(tmp_path: Path) -> None:
    with daemon.Daemon(bench(tmp_path), tmp_path / "s") as running:
        pid = running.pid
        with running.client() as client:
            daemon.Jobs(client, tmp_path, states.RUNBOOK, "one").run(3, at_once=2)
            jobs = client.call("JobList")["jobs"]
        assert [job["status"] for job in jobs] == ["completed"] * 3
    assert not Path(f"/proc/{pid}").exists()


def test_a_daemon_that_does_not_start_is_a_reason_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("not a folder")
    with pytest.raises(harness.RowError, match="the daemon did not start: Error"):
        daemon.Daemon(bench(tmp_path), tmp_path / "s").__enter__()


def test_no_variable_of_the_caller_reaches_a_daemon_of_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OJ_DAEMON_URL", "tcp://example.org:1")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    env = daemon.environment(bench(tmp_path), tmp_path / "s")
    assert {name: value for name, value in env.items() if name.startswith(("OJ_", "KUBE"))} == {
        "OJ_STATE_DIR": str(tmp_path / "s")
    }
