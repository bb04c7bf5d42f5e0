"""Facts -> the lines of a job's log.

Rule: pure, and after the fact: the log tells what the write-ahead log already holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from oj_daemon.core import events
from oj_daemon.core.job import label_of
from oj_daemon.core.state import Job, State
from oj_daemon.wire.names import JobId, JobStatus, StepStatus

JOB: Final = "job"
"""Label of lines about the job as a whole."""


def narrate(state: State, event: events.AnyEvent) -> Iterator[tuple[JobId, str, str]]:
    """Yield job, label and text; `state` may already be further than the fact."""
    match event:
        case events.WorkspaceCreated(job_id=job_id, path=path, branch=branch):
            yield (
                job_id,
                JOB,
                f"creating workspace {path}" + (f" on branch {branch}" if branch else ""),
            )
        case events.WorkspaceFailed(workspace_id=workspace_id, reason=reason):
            workspace = state.workspaces.get(workspace_id)
            if workspace is not None:
                yield workspace.job_id, JOB, f"workspace failed: {reason}"
        case events.WorkspaceDeleted(job_id=job_id, note=note):
            # Of a job that is gone there is no log that could still be removed.
            if note and job_id in state.jobs:
                yield job_id, JOB, note
        case events.JobDeleted() | events.RunbookLoaded() | events.ProjectSeen():
            return
        case events.WorkspaceReady() | events.WorkspaceDeleting() | events.WorkspaceDeleteFailed():
            return
        case _:
            job = state.jobs.get(event.job_id)
            if job is not None:
                for label, text in _of_job(job, event):
                    yield job.id, label, text


def _of_job(job: Job, event: events.JobEvent) -> Iterator[tuple[str, str]]:
    match event:
        case events.JobCreated():
            yield JOB, f"job created: {job.kind} {job.name}"
        case events.JobEnding(why="fail", error=error):
            yield JOB, f"job failed: {error}" if event.final else error
        case events.JobEnding(why=why):
            yield JOB, f"{why} requested"
        case events.JobResumed(steps=steps):
            yield JOB, f"resumed at {', '.join(steps)}"
        case events.JobFinished(status=status, error=error):
            yield (
                JOB,
                f"job {status}" + (f": {error}" if error and status is not JobStatus.DONE else ""),
            )
        case events.StepStarted(run=number, via=via, step=step):
            if via in ("done", "job_done", "fail", "cancel", "join"):
                yield JOB, f"advancing to {step}"
            label = _label(job, number)
            yield label, "step started" + (f" (try {event.attempt})" if event.attempt > 1 else "")
        case events.StepTimedOut(run=number):
            yield _label(job, number), "timeout reached; ending it"
        case events.StepRetryScheduled(step=step, attempt=attempt):
            yield JOB, f"{step} will be tried again (try {attempt})"
        case events.StepExited(run=number, exit_code=code):
            run = job.run_of(number)
            if run is None:
                return
            word = {StepStatus.DONE: "completed", StepStatus.FAILED: "failed"}.get(
                run.status, str(run.status)
            )
            shown = f" (exit {code})" if code is not None else ""
            yield (
                _label(job, number),
                f"shell {word}{shown}" + (f": {event.error}" if event.error else ""),
            )
        case _:
            return


def _label(job: Job, number: int) -> str:
    run = job.run_of(number)
    return label_of(job, run) if run is not None else JOB
