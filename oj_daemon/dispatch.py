"""Requests -> replies: reads are answered from state, changes go to the engine.

Rule: what needs I/O before the core can decide (runbook texts, log files, stray folders) happens here, off the event loop,
and nowhere later.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, assert_never

import msgspec

from oj_daemon import log, tokens
from oj_daemon.access import OWNER, Principal
from oj_daemon.core import views
from oj_daemon.core.job import label_of
from oj_daemon.core.state import Agent, Resolved
from oj_daemon.engine import Engine
from oj_daemon.errors import AdapterError, OjError, Rejected, RunbookError
from oj_daemon.executor import Executor
from oj_daemon.news import News
from oj_daemon.runbook import load
from oj_daemon.runbook.model import content_hash
from oj_daemon.store.logs import LogSlice, read_log
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import TERMINAL, JobStatus, short_id
from oj_daemon.wire.replies import AnyReply
from oj_daemon.wire.requests import AnyRequest

logger = logging.getLogger(__name__)

PEEK_SECONDS: Final = 5.0
"""How long a live screen is waited for before the last one that was kept is shown."""
KNOWN: Final = 32
"""Commands whose meaning is remembered, with the texts that say it: the same texts mean the same."""
STRAY_AGE_SECONDS: Final = 12 * 3600
"""Age from which `oj workspace prune` takes folders that no workspace is known for."""


class Dispatch:
    """Answers requests for one daemon."""

    def __init__(self, engine: Engine, executor: Executor, state_dir: Path) -> None:
        self._engine = engine
        self._executor = executor
        self._workspaces = state_dir / "workspaces"
        self._news = News(engine, executor, state_dir / "wal")
        self._resolved: dict[tuple[requests.Sources, str, str | None], Resolved] = {}

    async def handle(self, request: AnyRequest, who: Principal = OWNER) -> AnyReply:
        """Answer one request that `who` may make; Rejected and RunbookError become an Error reply."""
        try:
            if requests.is_change(request):
                return await self._change(request, who)
            if not requests.is_query(request):
                raise Rejected(
                    f"{type(request).__name__} is answered before it gets here", code="internal"
                )
            reply = await self._answer(request, who)
            # State runs ahead of the disk: what a crash could still undo must not be told to anybody.
            await self._engine.durable()
            return reply
        except (RunbookError, Rejected) as error:
            return replies.Error(error.message, code=error.code or "invalid", hint=error.hint)
        except OjError as error:
            return replies.Error(error.message, code=error.code or "internal", hint=error.hint)

    async def _change(self, request: requests.Change, who: Principal) -> AnyReply:
        """The engine's answer, given when the change is on disk: nobody has to wait until the world knows of it, too."""
        if isinstance(request, requests.RunCommand):
            resolved = await self._resolve(request)
            return await self._engine.submit(request, resolved, started_by=who.job_id)
        if isinstance(request, requests.TokenCreate):
            return await self._create_token(request)
        if isinstance(request, requests.WorkspacePrune):
            return await self._prune_workspaces(request)
        return await self._engine.submit(request)

    async def _create_token(self, request: requests.TokenCreate) -> AnyReply:
        """The secret goes into the reply and nowhere else."""
        secret = tokens.new_secret()
        reply = await self._engine.submit(request, secret_hash=tokens.hash_of(secret.reveal()))
        if not isinstance(reply, replies.TokenCreated):
            return reply
        return msgspec.structs.replace(reply, token=tokens.for_person(reply.id, secret))

    async def _answer(self, request: requests.Query, who: Principal) -> AnyReply:
        engine, state = self._engine, self._engine.state
        match request:
            case requests.DaemonStatus():
                raise Rejected("DaemonStatus is answered before it gets here", code="internal")
            case requests.Ping():
                return replies.Ok()
            case requests.StatusOverview(project=project):
                return self._news.overview(project)
            case requests.JobList():
                return views.jobs(state, request)
            case requests.JobShow(id=ref):
                return self._news.detail(state.find_job(ref))
            case requests.JobStory(id=ref):
                is_limited = who.reach is not None
                return await self._news.story(state.find_job(ref).id, is_limited=is_limited)
            case requests.JobLogs():
                return await self._logs(request)
            case requests.Watch():
                return await self._news.wait(request, who)
            case requests.DaemonLogs(lines=lines, offset=offset):
                return _kept_lines(lines, offset)
            case requests.WorkspaceList(project=project, limit=limit):
                return views.workspaces(state, project=project, limit=limit)
            case requests.WorkspaceShow(id=ref):
                return views.workspace_view(state, state.find_workspace(ref))
            case requests.ProjectList(project=project):
                return views.projects(state, project=project)
            case requests.TokenList(project=project):
                return views.tokens(state, project=project, now=engine.now())
            case requests.DecisionList(project=project, all=closed):
                return views.decisions(state, project=project, closed=closed)
            case requests.DecisionShow(id=ref):
                return views.decision_view(state, state.find_decision(ref))
            case requests.AgentList(project=project, job=job, status=status, limit=limit):
                found = views.agents(state, project=project, job=job, status=status, limit=limit)
                every = tuple(self._news.figured(view) for view in found.agents)
                return msgspec.structs.replace(found, agents=every)
            case requests.AgentShow(id=ref):
                return self._news.figured(views.agent_view(state, state.find_agent(ref)))
            case requests.AgentPeek(id=ref):
                return await self._peek(state.find_agent(ref))
            case requests.AgentLogs():
                return await self._agent_logs(request)
            case _:
                assert_never(request)

    async def _resolve(self, request: requests.RunCommand) -> Resolved | None:
        """What the shipped texts say about the command; None lets the core refuse (or repeat an earlier answer)."""
        if request.key and request.key in self._engine.state.keys:
            return None
        asked = (request.sources, request.command, request.runbook)
        known = self._resolved.pop(asked, None)
        if known is None:
            known = await asyncio.to_thread(_resolved, request)
        self._resolved[asked] = known
        if len(self._resolved) > KNOWN:
            del self._resolved[next(iter(self._resolved))]
        return known

    # Agents

    async def _peek(self, agent: Agent) -> replies.AgentScreen:
        shown: dict[str, Any] | None = None
        is_live = False
        if agent.is_alive:
            session = self._executor.session(agent.id, agent.job_id, agent.route)
            try:
                async with asyncio.timeout(PEEK_SECONDS):
                    shown = await session.screen()
                    is_live = True
            except (AdapterError, TimeoutError) as error:
                logger.info("no screen: %s", error, extra={"job": agent.job_id, "agent": agent.id})
        if shown is None:
            shown = self._executor.book.screen(agent.id) or {}
        return replies.AgentScreen(
            agent_id=agent.id,
            name=agent.name,
            status=agent.status,
            live=is_live,
            lines=tuple(shown.get("lines", ())),
            ansi=tuple(shown.get("ansi", ())),
            cols=int(shown.get("cols", 0)),
            rows=int(shown.get("rows", 0)),
        )

    async def _agent_logs(self, request: requests.AgentLogs) -> replies.Logs:
        agents, is_over = self._agents_of(request)
        await self._engine.durable()  # one that is told to have ended has its last lines in its log
        logs = []
        for agent in agents:
            path = self._executor.book.path(agent.id)
            offset = request.offsets.get(agent.id)
            piece = await asyncio.to_thread(read_log, path, lines=request.lines, offset=offset)
            logs.append(
                replies.AgentLog(
                    agent_id=agent.id,
                    name=agent.name,
                    step=self._step_of(agent),
                    log_path=str(path),
                    content=piece.content,
                    offset=piece.offset,
                    restarted=piece.was_restarted,
                    has_more=piece.has_more,
                )
            )
        return replies.Logs(logs=tuple(logs), is_over=is_over)

    def _step_of(self, agent: Agent) -> str:
        return self._engine.state.jobs[agent.job_id].runs[agent.run - 1].step

    def _agents_of(self, request: requests.AgentLogs) -> tuple[list[Agent], bool]:
        """The agents that an id means, and whether no others will join them."""
        state = self._engine.state
        agent = state.find_agent(request.id)
        if agent.id.startswith(request.id) or agent.id.startswith(f"agt-{request.id}"):
            found, is_over = [agent], bool(agent.ended_at)
        else:
            found = [state.agents[id_] for id_ in state.job_agents[agent.job_id]]
            is_over = state.jobs[agent.job_id].status in TERMINAL
        if request.step is not None:
            steps = {self._step_of(each) for each in found}
            if request.step not in steps:
                raise Rejected(
                    f"no agent of {request.id} works at step {request.step!r}; there are {', '.join(sorted(steps))}",
                    code="not_found",
                    hint=f"oj agent list --job {short_id(agent.job_id)}",
                )
            found = [each for each in found if self._step_of(each) == request.step]
        return found, is_over

    # Jobs

    async def _logs(self, request: requests.JobLogs) -> replies.Log:
        job = self._engine.state.find_job(request.id)
        path = self._executor.logs.path(job.id)
        if request.step is None:
            piece = await asyncio.to_thread(
                read_log, path, lines=request.lines, offset=request.offset
            )
        else:
            known = {node.name for node in self._engine.state.definition(job).steps}
            if request.step not in known:
                raise Rejected(
                    f"job {request.id} has no step {request.step!r}; its steps are {', '.join(sorted(known))}",
                    code="not_found",
                    hint=f"oj job show {short_id(job.id)}",
                )
            labels = {label_of(job, run) for run in job.runs if run.step == request.step}
            piece = await asyncio.to_thread(
                _lines_of, path, labels, lines=request.lines, offset=request.offset
            )
        return replies.Log(
            log_path=str(path),
            content=piece.content,
            offset=piece.offset,
            restarted=piece.was_restarted,
            has_more=piece.has_more,
        )

    # Workspaces

    async def _prune_workspaces(self, request: requests.WorkspacePrune) -> AnyReply:
        """Prune known workspaces, and folders that no workspace is known for."""
        reply = await self._engine.submit(request)
        if request.project is not None or not isinstance(reply, replies.Pruned):
            return reply
        known = {Path(workspace.path).name for workspace in self._engine.state.workspaces.values()}
        strays = await asyncio.to_thread(
            _strays, self._workspaces, known, any_age=request.all, remove=not request.dry_run
        )
        return msgspec.structs.replace(reply, pruned=(*reply.pruned, *strays))


_LABEL: Final = re.compile(r"\S+ \[([^\]]*)\] ?")


def _lines_of(path: Path, labels: set[str], *, lines: int | None, offset: int | None) -> LogSlice:
    """Log lines that carry one of the labels: the last `lines` of all, or those of one piece of the log."""
    kept: deque[str] = deque(maxlen=None if offset is not None else lines)
    at, was_restarted = offset or 0, False
    while True:
        piece = read_log(path, offset=at)
        was_restarted = was_restarted or piece.was_restarted
        whole, _, rest = piece.content.rpartition("\n")
        at = piece.offset - len(rest.encode())
        for line in whole.split("\n"):
            match = _LABEL.match(line)
            if match is not None and match[1] in labels:
                kept.append(f"{line}\n")
        if not piece.has_more or offset is not None or lines is None:
            return LogSlice("".join(kept), at, was_restarted, piece.has_more)


def _resolved(request: requests.RunCommand) -> Resolved:
    """Read the shipped texts, as far as their content is not known yet."""
    texts = {file.path: file.text for file in request.sources.files}
    catalog = load.catalog(texts, request.sources.problems)
    found = catalog.find_command(request.command, request.runbook)
    return Resolved(
        runbook=found.runbook,
        hash=content_hash(found.runbook),
        command=found.definition,
        warnings=tuple(
            problem.render()
            for problem in catalog.linked(found.runbook.path).problems
            if problem.warning
        ),
    )


def _strays(
    folder: Path, known: set[str], *, any_age: bool, remove: bool
) -> list[replies.PrunedEntry]:
    """Folders below `folder` that no workspace is known for."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # `.<workspace>.<random>` is a clone that is still being made.
        if (
            {path.name, path.name[1:].partition(".")[0]} & known
            or not path.is_dir()
            or path.is_symlink()
        ):
            continue
        if not any_age and time.time() - path.stat().st_mtime < STRAY_AGE_SECONDS:  # noqa: TID251 - a file's age
            continue
        found.append(
            replies.PrunedEntry(id=path.name, name=str(path), detail="no workspace is known for it")
        )
        if remove:
            shutil.rmtree(path, ignore_errors=True)
    return found


def _kept_lines(lines: int | None, offset: int | None) -> replies.Log:
    """Of the log of this daemon what is kept in memory."""
    content, end = log.kept.read(lines=lines, offset=offset)
    return replies.Log(log_path="", content=content, offset=end)


def jobs_active(engine: Engine) -> int:
    """How many jobs have not ended."""
    state = engine.state
    return sum(1 for job_id in state.live if state.jobs[job_id].status is not JobStatus.SUSPENDED)
