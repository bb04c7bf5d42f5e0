"""`oj job wait`: tell what jobs do until one of them, or all, have ended.

Rule: the exit code says how it went; progress goes to stdout once per step, bad ends to stderr.
"""

from __future__ import annotations

import time

from oj_cli import diagnostics, output
from oj_cli.diagnostics import ExitCode
from oj_cli.job_view import detail_of, doing, name_of, title_of
from oj_cli.watch import OutOfTime, Watch, insist, tell_lost
from oj_daemon.errors import OjError
from oj_daemon.wire.format import duration, now_ms
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oj_cli.context import Ctx
    from oj_daemon.wire.client import Client

OUTCOMES = {
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
    "suspended": ExitCode.SUSPENDED,
    "waiting": ExitCode.BLOCKED,
    "completed": ExitCode.OK,
}
"""How a job can end, the worst first: with several jobs the worst decides."""


class Wait:
    """One call of `oj job wait`."""

    def __init__(self, ctx: Ctx, *, all_of_them: bool, until_blocked: bool) -> None:
        self.ctx = ctx
        self.all_of_them = all_of_them
        self.until_blocked = until_blocked
        self.jobs: dict[str, dict[str, Any]] = {}
        """Newest news of each job, by full id, in the order asked for."""
        self.ended: set[str] = set()
        self.told: set[tuple[object, ...]] = set()

    def run(self, ids: Sequence[str], seconds: float | None, *, was_there: bool = False) -> int:
        """Wait, and return the exit code; `was_there`: a daemon has just told of these jobs, so one will come back."""
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            self._resolve(ids, deadline, was_there=was_there)
            with Watch(self.ctx, list(self.jobs), deadline=deadline, on_lost=tell_lost) as watch:
                while not self._is_over():
                    watch.ids = [job_id for job_id in self.jobs if job_id not in self.ended]
                    self._take(watch.poll())
        except OutOfTime:
            return self._timed_out(seconds)
        except OjError as failure:
            if failure.code != "not_found":
                raise
            diagnostics.error(
                failure.message, code=failure.code, hint=failure.hint, json=self.ctx.json
            )
            return ExitCode.NOT_FOUND
        return self._finish()

    def _resolve(self, ids: Sequence[str], deadline: float | None, *, was_there: bool) -> None:
        """Full ids for what was typed: the same job named twice is one job."""

        def ask(client: Client) -> list[dict[str, Any]]:
            return [client.call("JobShow", id=typed) for typed in ids]

        for job in insist(self.ctx, ask, deadline=deadline, was_there=was_there, on_lost=tell_lost):
            self.jobs.setdefault(job["id"], job)

    def _is_over(self) -> bool:
        if self.all_of_them:
            return len(self.ended) == len(self.jobs)
        return bool(self.ended)

    def _take(self, reply: dict[str, Any]) -> None:
        for job_id in reply["missing"]:
            if job_id not in self.ended:
                message = f"Job not found: {job_id} (it was pruned while we waited)"
                raise OjError(message, code="not_found", hint="oj job list --no-limit")
        for job in reply["details"]:
            self.jobs[job["id"]] = job
            self._tell_steps(job)
            if self._has_ended(job["status"]) and job["id"] not in self.ended:
                self.ended.add(job["id"])
                self._tell_end(job)

    def _has_ended(self, status: str) -> bool:
        return status in OUTCOMES and (status != "waiting" or self.until_blocked)

    def _tell_steps(self, job: dict[str, Any]) -> None:
        prefix = f"[{name_of(job)}] " if len(self.jobs) > 1 else ""
        for run in job["steps"]:
            key: tuple[object, ...] = (
                job["id"],
                run["name"],
                run["run"],
                run["visit"],
                run["attempt"],
            )
            status = run["status"]
            started = run["started_at_ms"]
            if started:
                self._tell((*key, "started"), prefix, run["name"], "started", _attempt(run))
            elif status != "failed":  # to come, or called off before it began
                continue
            took = run["finished_at_ms"] - started if started and run["finished_at_ms"] else None
            detail = one_line(detail_of(run))
            rest = "" if took is None else f" ({duration(took)})"
            if status == "waiting":
                rest = f" ({detail})" if detail else ""
                asked = [each for each in job.get("decisions", ()) if each["step"] == run["name"]]
                for each in asked:
                    key = (*key, each["id"])
                    rest += f"; oj decision show {short_id(each['id'])}"
            elif detail:
                rest += f" - {detail}"
            if status not in ("pending", "running"):
                self._tell((*key, status), prefix, run["name"], status, rest)

    def _tell(self, key: tuple[object, ...], prefix: str, name: str, word: str, rest: str) -> None:
        if key not in self.told:
            self.told.add(key)
            if not self.ctx.json:
                output.line(prefix, name, " ", output.status(word), rest)

    def _tell_end(self, job: dict[str, Any]) -> None:
        if self.ctx.json:
            return
        title = title_of(job)
        status = job["status"]
        if status == "completed":
            output.line(title, " ", output.status(status))
            return
        why = one_line((job["error"] or job["reason"]).strip())
        word = "waits for a decision" if status == "waiting" else status
        diagnostics.say(f"{title} {word}{f': {why}' if why else ''}")
        for each in job.get("decisions", ()) if status == "waiting" else ():
            diagnostics.hint(f"oj decision show {short_id(each['id'])}")

    def _finish(self) -> int:
        ends = [self.jobs[job_id]["status"] for job_id in self.jobs if job_id in self.ended]
        outcome = next((word for word in OUTCOMES if word in ends), "completed")
        self._print_json(outcome)
        return OUTCOMES[outcome]

    def _timed_out(self, seconds: float | None) -> int:
        self._print_json("timeout")
        for job_id, job in self.jobs.items():
            if job_id not in self.ended:
                what = doing(job, now_ms()) or job["status"]
                diagnostics.say(f"{title_of(job)} has not ended: {what}")
        waited = duration(int((seconds or 0) * 1000))
        diagnostics.error(f"timed out after {waited}", code="timeout", hint="oj status")
        return ExitCode.TIMEOUT

    def _print_json(self, outcome: str) -> None:
        if self.ctx.json:
            keys = ("id", "name", "kind", "project", "status", "step", "reason", "error")
            jobs = [{key: job[key] for key in keys} for job in self.jobs.values()]
            output.json({"outcome": outcome, "jobs": jobs})


def _attempt(run: dict[str, Any]) -> str:
    return f" (attempt {run['attempt']})" if run["attempt"] > 1 else ""
