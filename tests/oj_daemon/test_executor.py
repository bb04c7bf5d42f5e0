"""The executor: whatever goes wrong with one order stays with that order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from oj_daemon import settings
from oj_daemon.adapters.notify import Told
from oj_daemon.core import effects, events
from oj_daemon.core.events import AnyEvent
from oj_daemon.errors import StoreError
from oj_daemon.executor import Executor
from oj_daemon.wire.names import AgentId, JobId, NotificationId, Severity

JOB = JobId("job-0000000000000001")


class Desk:
    """An executor, and what it reported."""

    def __init__(self, state: Path) -> None:
        self.facts: list[AnyEvent] = []
        self.failures: list[StoreError] = []
        self.executor = Executor(
            settings.load({"OJ_STATE_DIR": str(state), "PATH": "/usr/bin:/bin"}),
            report=lambda fact, _cause: self.facts.append(fact),
            fail=self.failures.append,
            grew=lambda: None,
            now=lambda: 1_000,
        )


def at_desk(state: Path, scenario: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def run() -> Desk:
        desk = Desk(state)
        async with asyncio.timeout(30):
            await scenario(desk)
            await desk.executor.idle()
        await desk.executor.stop()
        return desk

    return asyncio.run(run())


def test_a_log_that_cannot_be_removed_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(desk: Desk) -> None:
        (desk.executor.logs.path(JOB) / "inner").mkdir(parents=True)
        desk.executor.deliver(effects.ForgetJob(job_id=JOB), 1)

    assert at_desk(tmp_path, scenario).failures == []
    assert "cannot remove" in caplog.text


def test_an_order_that_crashes_at_once_costs_its_job_and_no_other_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(desk: Desk) -> None:
        desk.executor._spawn = lambda work, _effect: work.close() or 1 / 0  # type: ignore[assignment,return-value]  # a bug
        desk.executor.deliver(effects.EndStep(job_id=JOB, run=1, label="a"), 1)

    (fact,) = at_desk(tmp_path, scenario).facts
    assert isinstance(fact, events.StepExited)
    assert "internal error: ZeroDivisionError" in fact.error
    assert "carrying out EndStep failed" in caplog.text


def test_a_line_that_cannot_be_told_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> Iterator[tuple[JobId, str, str]]:
        yield JOB, "job", "told"
        raise LookupError("a bug")

    async def scenario(desk: Desk) -> None:
        desk.executor.narrate(lines(), 1_000)
        assert "told" in desk.executor.logs.path(JOB).read_text()

    assert at_desk(tmp_path, scenario).failures == []
    assert "a bug" in caplog.text


def test_a_gate_and_an_agent_have_the_token_of_the_agent_and_print_it_nowhere(
    tmp_path: Path,
) -> None:
    agent_id = AgentId("agt-0000000000000002")
    order = effects.SpawnAgent(
        agent_id=agent_id,
        job_id=JOB,
        label="code",
        driver="claude",
        script="claude",
        cwd=str(tmp_path),
        prompt="",
        env={},
    )

    async def scenario(desk: Desk) -> None:
        token = desk.executor.tokens.of_agent(JOB, agent_id).reveal()
        environ = desk.executor.agents._env(order)
        assert (environ["OJ_AUTH_TOKEN"], environ["OJ_STATE_DIR"]) == (token, str(tmp_path))
        script = f'echo "$OJ_AUTH_TOKEN"; test "$OJ_AUTH_TOKEN" = {token}'
        desk.executor.deliver(
            effects.RunGate(
                job_id=JOB, agent_id=agent_id, gate=1, script=script, env={}, cwd=str(tmp_path)
            ),
            1,
        )

    (fact,) = at_desk(tmp_path, scenario).facts
    assert isinstance(fact, events.GateFinished)
    assert (fact.exit_code, fact.output) == (0, "ojs_***")


def test_a_step_that_nobody_can_follow_any_more_does_not_go_on_behind_its_job(
    tmp_path: Path,
) -> None:
    async def scenario(desk: Desk) -> None:
        async def broken(_run_id: str) -> None:
            raise OSError(24, "Too many open files")

        desk.executor.shell.wait = broken  # type: ignore[assignment]  # the kernel's refusal
        desk.executor.deliver(
            effects.StartStep(
                job_id=JOB,
                run=1,
                step="a",
                label="a",
                script="sleep 300",
                env={},
                cwd=str(tmp_path),
            ),
            1,
        )
        while not desk.facts:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        assert desk.executor.shell.survivors() == []

    (fact,) = at_desk(tmp_path, scenario).facts
    assert isinstance(fact, events.StepExited)
    assert "Too many open files" in fact.error


def notification(sink: str = "webhook") -> effects.DeliverNotification:
    return effects.DeliverNotification(
        notification_id=NotificationId("ntf-0000000000000001"),
        sink=sink,
        event="job:failed",
        severity=Severity.WARNING,
        title="t",
        text="x",
        at=1,
    )


def test_a_bug_in_a_sink_costs_that_notification(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(desk: Desk) -> None:
        desk.executor.notices._make = lambda _name: 1 / 0  # type: ignore[assignment,return-value]  # a bug
        desk.executor.deliver(notification(), 1)
        await desk.executor.finish_deliveries()

    (fact,) = at_desk(tmp_path, scenario).facts
    assert isinstance(fact, events.NotificationDropped)
    assert "internal error: ZeroDivisionError" in fact.reason
    assert "carrying out DeliverNotification failed" in caplog.text


def test_nothing_waits_for_a_notification_that_does_not_get_through(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        class Wall:
            label = "wall"

            async def deliver(self, _order: effects.DeliverNotification) -> Told:
                begun.set()
                await asyncio.Event().wait()
                raise AssertionError

        begun = asyncio.Event()
        desk.executor.notices._make = lambda _name: Wall()  # type: ignore[assignment]  # a sink that hangs
        desk.executor.deliver(notification(), 1)
        await begun.wait()
        await desk.executor.idle()

    assert at_desk(tmp_path, scenario).facts == []
