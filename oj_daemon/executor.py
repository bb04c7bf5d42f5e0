"""Orders meet the world, and the world answers with facts.

Rule: every task of the daemon's work is started here, kept in one set, and ended by `stop`. An order whose adapter fails
answers with its failure fact; a bug in carrying one out is logged with its traceback and costs that order's job, not the
daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import shutil
from collections import defaultdict
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, Final, assert_never

import msgspec

from oj_daemon import log
from oj_daemon.adapters import git
from oj_daemon.adapters.base import Places, Shell
from oj_daemon.adapters.local import NAME as LOCAL
from oj_daemon.adapters.local import LocalAgents
from oj_daemon.adapters.notify import Notices
from oj_daemon.adapters.placed import PlacedAgents
from oj_daemon.adapters.session import Session
from oj_daemon.adapters.shells import LocalShell, PlaceShell
from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.narration import JOB
from oj_daemon.core.state import Agent
from oj_daemon.drivers.activity import Deed, reader_of
from oj_daemon.errors import AdapterError, OjError, StoreError
from oj_daemon.runbook import template
from oj_daemon.runbook.model import Text
from oj_daemon.settings import TOKEN_NAME, Secret, Settings
from oj_daemon.shell import Found, RunSpec, RunState, ShellRuns, base_env
from oj_daemon.store import lock
from oj_daemon.store.agents import AgentBook, Scribe, UsageLog
from oj_daemon.store.begun import begun_in, note_route
from oj_daemon.store.files import replace_file
from oj_daemon.store.logs import LogBook, OutputCopier, masked
from oj_daemon.timers import Timers
from oj_daemon.tokens import Tokens
from oj_daemon.wire.names import PREFIXES, AgentId, JobId, WorkspaceId, WorkspaceKind

logger = logging.getLogger(__name__)

EVALUATE_SECONDS: Final = 10.0
"""How long one local or ref may take (spec 1.14)."""
CRASH_SECONDS: Final = 30.0
"""How long the end of a run may take whose order failed in a way that nobody foresaw."""
GATE_SECONDS: Final = 600.0
"""How long the command of a gate may take."""
GATE_OUTPUT: Final = 2000
"""Characters of its stderr that are told to the agent and to people."""
OUTPUT_LIMIT: Final = 20 * 1024 * 1024
"""Bytes of one run's output that its job's log keeps."""
LAST_SECONDS: Final = 2.0
"""How long the end of the daemon waits for a notification that is on its way."""
PUMP_FIRST: Final = 0.01
PUMP_LONGEST: Final = 0.25
"""Seconds between two looks at a run's output: soon after it wrote, later while it is quiet."""


_ERRORS_LAST: Final = (
    '_oj_errors=$(mktemp) && exec 2>"$_oj_errors"\n'
    'trap \'_oj_code=$?; test $_oj_code = 0 || cat "$_oj_errors"; rm -f "$_oj_errors"; exit $_oj_code\' EXIT'
)
"""What begins a script in a place of which only the output is wanted, and the errors only where it fails."""
BEGINNINGS: Final = (
    effects.StartStep,
    effects.SpawnAgent,
    effects.EvaluateJob,
    effects.CreateWorkspace,
    effects.RunGate,
)
"""Orders that begin something; not given by a daemon that is about to end, but by the next one, when it recovers."""


class Executor:
    """Carries out orders for one daemon; belongs to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        report: Callable[[AnyEvent, str], None],
        fail: Callable[[StoreError], None],
        grew: Callable[[], None],
        now: Callable[[], int],
    ) -> None:
        self.logs = LogBook(settings.state_dir / "logs" / "job")
        self.shell = ShellRuns(settings.state_dir / "runs")
        self.timers = Timers(now, report)
        self.tokens = Tokens.open(settings.state_dir, settings.token)
        self.agents = LocalAgents(
            settings.state_dir,
            self.shell,
            base_env(settings.step_environ(), ["OJ_STATE_DIR"]),
            settings.inherited.reveal(),
            self.tokens.of_agent,
        )
        self._here = LocalShell(self.shell)
        self._places: Places | None = None
        self._placed: PlacedAgents | None = None
        self._routes: dict[str, Mapping[str, str]] = {}
        """Where places were found last, by owner: newer than what an order says."""
        self._entering: set[str] = set()
        """Runs that wait for their place."""
        self._agents_dir = settings.state_dir / "agents"
        self._checkpoints = settings.state_dir / "checkpoints"
        """What was saved of places, a folder for each job."""
        self._sessions: dict[AgentId, asyncio.Task[None]] = {}
        """Tasks that start or follow a session."""
        self.book = AgentBook(settings.state_dir / "logs" / "agent")
        self.usage_log = UsageLog(settings.state_dir / "metrics" / "usage.jsonl")
        self._ears: dict[AgentId, _Ear] = {}
        self.on_usage: Callable[[AgentId, Mapping[str, Any]], None] = _ignore
        """Called with what a session has spent so far, whenever there is news of it."""
        self._workspaces = settings.state_dir / "workspaces"
        # The state folder, so that an `oj` in a step meets this daemon and starts none of its own.
        self._environ = base_env(settings.step_environ(), ["OJ_STATE_DIR"])
        self._git_environ = git.remote_environ(
            settings.inherited.reveal(), base_env(settings.step_environ())
        )
        self._loop = asyncio.get_running_loop()
        self._report = report
        self._fail = fail
        self._grew = grew
        self._now = now
        self._ended: set[str] = set()
        """Runs that we began to end before they had exited."""
        self._evaluating: dict[JobId, asyncio.Task[None]] = {}
        self._creating: dict[WorkspaceId, asyncio.Task[None]] = {}
        self._placing: set[asyncio.Task[None]] = set()
        """Those of them that make a place, for as long as a cluster likes; the next daemon goes on with a half-made one."""
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._elsewhere: set[str] = set()
        """Those of them that run in a place, and so outlive this process wherever it runs."""
        self._busy: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()
        self.notices = Notices(settings, now=now)
        self._deliveries: set[asyncio.Task[None]] = set()
        """Notifications on their way: nothing waits for them."""
        self._chores: set[asyncio.Task[None]] = set()
        """Tasks without an end."""
        self._stopped = False
        self._holding = False
        self._boot = settings.state_dir / "boot"

    def use(self, places: Places) -> None:
        """Carry out orders that have a place in the places of this runtime."""
        self._places = places
        places.on_status = self._waits

        def environ(job_id: JobId, agent_id: AgentId) -> Mapping[str, str]:
            token = self.tokens.of_agent(job_id, agent_id)
            return {**places.environ, TOKEN_NAME: token.reveal()}

        def conversation(job_id: JobId, session_id: str) -> bytes | None:
            return self.book.conversation(self.agents.known(job_id), session_id)

        self._placed = PlacedAgents(places, self._agents_dir, environ, conversation)

    # Input

    def deliver(self, effect: AnyEffect, seq: int) -> None:
        """Begin to carry out one order of record `seq`."""
        if self._stopped or (self._holding and isinstance(effect, BEGINNINGS)):
            return
        try:
            self._deliver(effect, f"#{seq}")
        except Exception as error:  # else the orders behind it would never leave
            logger.exception("carrying out %s failed", type(effect).__name__, extra=log.ids(effect))
            self._crash(effect, error)

    def _deliver(self, effect: AnyEffect, cause: str) -> None:
        match effect:
            case effects.StartStep() | effects.SpawnAgent() | effects.RunGate() if (
                why := self._why_left_alone(effect)
            ):
                logger.warning("%s is left as it is: %s", cause, why, extra=log.ids(effect))
                if not isinstance(effect, effects.RunGate):
                    self._line(effect.job_id, effect.label, f"left as it is: {why}")
            case effects.SetTimer(key=key, at=at, fact=fact):
                self.timers.set(key, at, fact)
            case effects.CancelTimer(key=key):
                self.timers.cancel(key)
            case effects.EndLocals(job_id=job_id):
                self._spawn(self._end_locals(job_id), effect)
            case effects.CloseLog(job_id=job_id):
                self.logs.close(job_id)
            case effects.StartStep():
                run_id = _run_id(effect.job_id, effect.run)
                if run_id not in self._watched:
                    if effect.place is not None:
                        self._elsewhere.add(run_id)
                    self._watched[run_id] = self._spawn(self._run_step(effect, cause), effect)
            case effects.EndStep():
                self._spawn(self._end_step(effect, cause), effect)
            case effects.ForgetRun(job_id=job_id, run=run):
                if effect.place is not None:
                    self._spawn(self._forget_there(_run_id(job_id, run)), effect)
                else:
                    self.shell.remove(_run_id(job_id, run))
                self.logs.forget(job_id, str(run))
            case effects.ForgetJob(job_id=job_id):
                self._forget_job(job_id)
            case effects.ForgetAgents(job_id=job_id):
                self._forget_agents(job_id)
            case effects.EvaluateJob():
                task = self._spawn(self._evaluate(effect, cause), effect)
                self._evaluating[effect.job_id] = task
            case effects.CreateWorkspace(workspace_id=workspace_id, kind=kind):
                task = self._spawn(self._create_workspace(effect, cause), effect)
                if kind is WorkspaceKind.CLONE or effect.runtime:
                    self._creating[workspace_id] = task
                if effect.runtime:
                    self._placing.add(task)
                    task.add_done_callback(self._placing.discard)
            case effects.DeleteWorkspace():
                self._spawn(self._delete_workspace(effect, cause), effect)
            case effects.SpawnAgent(agent_id=agent_id):
                if agent_id not in self._sessions:
                    self._sessions[agent_id] = self._spawn(self._run_agent(effect, cause), effect)
            case effects.NudgeAgent():
                self._spawn(self._nudge_agent(effect, cause), effect)
            case effects.AnswerAgent():
                self._spawn(self._answer_agent(effect, cause), effect)
            case effects.EndAgent():
                self._spawn(self._end_agent(effect, cause), effect)
            case effects.KillAgent():
                self._spawn(self._kill_agent(effect, cause), effect)
            case effects.RunGate():
                self._spawn(self._run_gate(effect, cause), effect)
            case effects.Notify(title=title, text=text, job_id=job_id):
                logger.info("notification: %s: %s", title, text, extra=log.ids(effect))
                self._line(job_id, JOB, f"notification: {text}")
            case effects.DeliverNotification():
                task = self._spawn(self._deliver_notification(effect, cause), effect)
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)
            case effects.ReportDrop():
                self.notices.report_drop(effect)
            case _:
                assert_never(effect)

    def _spawn(
        self, work: Coroutine[object, object, None], effect: AnyEffect
    ) -> asyncio.Task[None]:
        return self.keep(self._guarded(work, effect))

    def keep(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a coroutine that takes care of its own errors until it ends or `stop` comes."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[object, object, None], effect: AnyEffect) -> None:
        try:
            await work
        except StoreError as error:
            self._fail(error)
        except Exception as error:
            logger.exception("carrying out %s failed", type(effect).__name__, extra=log.ids(effect))
            if isinstance(effect, effects.StartStep):
                # Nobody follows the run any more: it must not go on behind the back of a job that calls it over.
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(CRASH_SECONDS):
                        run_id = _run_id(effect.job_id, effect.run)
                        await self._shell_of(run_id, effect.place).end(run_id)
            self._crash(effect, error)

    def _crash(self, effect: AnyEffect, error: Exception) -> None:
        text = f"internal error: {type(error).__name__}: {error}; see oj daemon logs"
        fact = _crashed(effect, text)
        if fact is not None:
            self._report(fact, "crash")

    def narrate(self, lines: Iterable[tuple[JobId, str, str]], at: int) -> None:
        """Write lines to job logs."""
        said: dict[JobId, list[tuple[str, str]]] = {}
        try:
            for job_id, label, text in lines:
                said.setdefault(job_id, []).append((label, text))
        except Exception:  # else the orders of the same facts would never leave
            logger.exception("telling job logs failed")
        for job_id, texts in said.items():
            self._lines(job_id, texts, at)

    def _line(self, job_id: JobId, label: str, text: str) -> None:
        self._lines(job_id, [(label, text)], self._now())

    def _lines(self, job_id: JobId, texts: Sequence[tuple[str, str]], at: int) -> None:
        try:
            self.logs.lines(job_id, texts, at)
        except StoreError as error:
            self._fail(error)

    # Steps

    async def _run_step(self, effect: effects.StartStep, cause: str) -> None:
        run_id = _run_id(effect.job_id, effect.run)
        try:
            fact = await self._watch(effect, run_id)
        finally:
            self._watched.pop(run_id, None)
            self._elsewhere.discard(run_id)
        self._ended.discard(run_id)
        self._report(fact, cause)

    async def _watch(self, effect: effects.StartStep, run_id: str) -> events.StepExited:
        """Start the run, or find it again, and follow it to its end."""
        token = self.tokens.of_run(effect.job_id, effect.run)
        try:
            spec = RunSpec(
                run_id=run_id,
                script=effect.script,
                env=self._env(effect.env, token, effect.place),
                cwd=Path(effect.cwd),
            )
            shell = await self._begin(spec, effect.place)
        except AdapterError as error:
            return events.StepExited(job_id=effect.job_id, run=effect.run, error=_sentence(error))
        copier = self._copier(effect, run_id)
        waiting = self._loop.create_task(shell.wait(run_id))
        try:
            pause = PUMP_FIRST
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=pause)
                if copier.pump(self._now()):
                    pause = PUMP_FIRST
                    self._grew()
                else:
                    pause = min(pause * 1.5, PUMP_LONGEST)
            found = waiting.result()
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})  # it lets go of its process descriptor
        await self._finish(copier)
        return self._exited(effect.job_id, effect.run, found)

    def _env(
        self,
        own: Mapping[str, str],
        token: Secret[str],
        place: effects.CreateWorkspace | None = None,
    ) -> dict[str, str]:
        """What a command gets; what its runbook says, a token for another daemon included, wins."""
        given = self._environ if place is None else self._runtime(place).environ
        return {**given, TOKEN_NAME: token.reveal(), **own}

    # Places

    def _runtime(self, place: effects.CreateWorkspace | effects.DeleteWorkspace) -> Places:
        if self._places is None or self._places.name != place.runtime:
            raise AdapterError(
                f"its place is one of the runtime {place.runtime}, and this daemon has none of that;"
                f" start it with OJ_RUNTIME={place.runtime}",
                code="runtime",
            )
        return self._places

    def _why_out_of_reach(self, place: effects.CreateWorkspace | None) -> str:
        """Why this daemon cannot look at a place at all, in words; empty: it can."""
        try:
            if place is not None:
                self._runtime(place)
        except AdapterError as error:
            return _sentence(error)
        return ""

    def _why_left_alone(
        self, effect: effects.StartStep | effects.SpawnAgent | effects.RunGate
    ) -> str:
        """Why nothing can be said of what goes on in a place: only who can look may say that it is gone (system.md D8)."""
        match effect:
            case effects.StartStep(job_id=job_id, run=run):
                is_begun = bool(begun_in(self.shell.folder(_run_id(job_id, run))))
            case effects.SpawnAgent(route=route):
                is_begun = bool(route)
            case effects.RunGate():
                is_begun = True  # its agent is there
            case _:
                assert_never(effect)
        return self._why_out_of_reach(effect.place) if is_begun else ""

    def _waits(self, owner: str, reason: str) -> None:
        """What the place of a job waits for is news; of an agent's own place the logs of the daemon tell."""
        if owner.startswith(PREFIXES["workspace"]):
            fact = events.WorkspaceWaits(workspace_id=WorkspaceId(owner), reason=reason)
            self._report(fact, "place")
        elif reason:
            logger.info("the place of %s waits: %s", owner, reason)

    async def _enter(self, place: effects.CreateWorkspace) -> Mapping[str, str]:
        """The route to a place that can be worked in; it is made, or made again, if it has to be."""
        owner = place.agent_id or place.workspace_id
        async with self._busy[owner]:
            route = self._routes.get(owner, place.route)
            ready = await self._runtime(place).ready(
                msgspec.structs.replace(place, route=dict(route))
            )
            self._routes[owner] = ready.route
        if ready.route != route and not place.agent_id:
            fact = events.WorkspaceMoved(
                workspace_id=place.workspace_id,
                route=dict(ready.route),
                note="; ".join(ready.notes),
            )
            self._report(fact, "place")
        return ready.route

    async def _begin(self, spec: RunSpec, place: effects.CreateWorkspace | None) -> Shell:
        """Start a run where it belongs, or find where it was begun. Raises AdapterError."""
        if place is None:
            await self._here.start(spec)
            return self._here
        runtime, folder = self._runtime(place), self.shell.folder
        route: Mapping[str, str] = begun_in(folder(spec.run_id))
        if not route:
            self._entering.add(spec.run_id)
            try:
                route = await self._enter(place)
            finally:
                self._entering.discard(spec.run_id)
        shell = PlaceShell(runtime, route, folder)
        if not runtime.why_gone(route):  # else `wait` tells what became of it
            # Not in the loop: it is two fsyncs, and many may begin at once.
            await asyncio.to_thread(note_route, folder(spec.run_id), route)
            await shell.start(spec)
        return shell

    def _shell_of(self, run_id: str, place: effects.CreateWorkspace | None) -> Shell:
        """The shell of a run that was begun."""
        if place is None:
            return self._here
        route = begun_in(self.shell.folder(run_id)) or place.route
        return PlaceShell(self._runtime(place), route, self.shell.folder)

    async def _forget_there(self, run_id: str) -> None:
        route = begun_in(self.shell.folder(run_id))
        if route and self._places is not None:
            await PlaceShell(self._places, route, self.shell.folder).remove(run_id)
        self.shell.remove(run_id)

    def _copier(self, effect: effects.StartStep | effects.EndStep, run_id: str) -> OutputCopier:
        return self.logs.copier(
            effect.job_id,
            str(effect.run),
            effect.label,
            self.shell.folder(run_id) / "output",
            limit=OUTPUT_LIMIT,
        )

    async def _finish(self, copier: OutputCopier) -> None:
        """Copy what is left of the output, and let others have their turn in between: it can be a lot."""
        while copier.finish_piece(self._now()):  # noqa: ASYNC110 - nothing is waited for
            await asyncio.sleep(0)

    def _exited(self, job_id: JobId, run: int, found: Found) -> events.StepExited:
        ended = _run_id(job_id, run) in self._ended
        if found.state is RunState.EXITED and found.status is not None:
            return events.StepExited(job_id=job_id, run=run, exit_code=found.status, ended=ended)
        if found.state is RunState.EXITED:
            error = "its working directory could not be entered"
        else:
            error = f"interrupted: {found.detail or 'it never began'}"
        return events.StepExited(job_id=job_id, run=run, error=error, ended=ended)

    async def _end_step(self, effect: effects.EndStep, cause: str) -> None:
        run_id = _run_id(effect.job_id, effect.run)
        if run_id in self._entering:  # its place may never come
            watching = self._watched[run_id]
            watching.cancel()
            await asyncio.wait({watching})
            fact = events.StepExited(
                job_id=effect.job_id, run=effect.run, error="it never began", ended=True
            )
            self._report(fact, cause)
            return
        if why := self._why_out_of_reach(effect.place):
            fact = events.StepExited(
                job_id=effect.job_id, run=effect.run, error=f"it may still run: {why}", ended=True
            )
            self._report(fact, cause)
            return
        is_watched = run_id in self._watched  # as it is now: a watcher reports the end by itself
        shell = self._shell_of(run_id, effect.place)
        if not await shell.is_over(run_id):
            self._ended.add(run_id)
        left = await shell.end(run_id)
        if left:
            self._line(effect.job_id, effect.label, f"could not end these processes: {left}")
        if not is_watched:
            # Nobody of this daemon started or found it: a restart came between the start and the end.
            found = await shell.wait(run_id)
            await self._finish(self._copier(effect, run_id))
            fact = self._exited(effect.job_id, effect.run, found)
            self._ended.discard(run_id)
            self._report(fact, cause)

    def _forget_agents(self, job_id: JobId) -> None:
        self.book.remove(self.agents.known(job_id))
        self.agents.forget(job_id)  # those in places have their marks in the same folder

    def _forget_job(self, job_id: JobId) -> None:
        self._evaluating.pop(job_id, None)
        try:
            self.logs.remove(job_id)
            self._forget_agents(job_id)
        except StoreError as error:
            logger.warning("%s", error.message, extra={"job": job_id})
        shutil.rmtree(self.shell.root / job_id, ignore_errors=True)
        shutil.rmtree(self._checkpoints / job_id, ignore_errors=True)

    # Agents

    async def _run_agent(self, effect: effects.SpawnAgent, cause: str) -> None:
        """Start the session, or find it again, and follow it to its end."""
        agent_id = effect.agent_id
        try:
            try:
                runtime, route, session_id = await self._spawn_agent(effect)
            except AdapterError as error:
                fact: AnyEvent
                if effect.route:
                    fact = events.AgentExited(agent_id=agent_id, reason=_sentence(error))
                else:
                    fact = events.AgentSpawnFailed(agent_id=agent_id, reason=_sentence(error))
                self.book.log(agent_id).append([(Deed.ERROR, _sentence(error))], self._now())
                self._report(fact, cause)
                return
            self._report(
                events.AgentSpawned(
                    agent_id=agent_id, runtime=runtime, route=route, session_id=session_id
                ),
                cause,
            )
            scribe = Scribe(self.book.log(agent_id), reader_of(effect.driver))
            ear = self._ears[agent_id] = _Ear(scribe, self._now, self._grew)
            ear.on_usage = lambda usage: self.on_usage(agent_id, usage)
            where = self.agents if effect.place is None else self._placed_agents()
            async with self._saving(effect, route):
                exited = await where.follow(
                    effect, route, lambda fact: self._report(fact, "agent"), ear
                )
            await self._keep_remains(agent_id, effect.job_id, route, _epitaph(exited))
            self._report(exited, "agent")
        finally:
            self._sessions.pop(agent_id, None)

    @contextlib.asynccontextmanager
    async def _saving(
        self, effect: effects.SpawnAgent, route: Mapping[str, str]
    ) -> AsyncIterator[None]:
        """Meanwhile, save conversation and work of an agent whose place may be lost."""
        if effect.place is None:
            yield
            return
        task = self._spawn(self._save_often(effect, effect.place, route), effect)
        self._chores.add(task)
        try:
            yield
        finally:
            self._chores.discard(task)
            task.cancel()
            await asyncio.wait({task})

    async def _save_often(
        self, effect: effects.SpawnAgent, place: effects.CreateWorkspace, route: Mapping[str, str]
    ) -> None:
        runtime = self._runtime(place)
        while True:
            await asyncio.sleep(runtime.checkpoint_seconds)
            try:
                await self._note_remains(effect.agent_id, effect.job_id, route)
                await runtime.checkpoint(place, route)
            except (AdapterError, OSError) as error:
                logger.warning("save the work of agent %s: %s", effect.agent_id, error)

    async def _spawn_agent(self, effect: effects.SpawnAgent) -> tuple[str, dict[str, str], str]:
        """Runtime, route and conversation of a session that is up. Raises AdapterError."""
        if effect.place is None:
            route, session_id = await self.agents.spawn(effect)
            return LOCAL, route, session_id
        runtime = self._runtime(effect.place)
        found: Mapping[str, str] = effect.route
        if not found:
            found = await self._enter(effect.place)
        elif gone := runtime.why_gone(found):
            raise AdapterError(gone, code="gone")
        route, session_id, note = await self._placed_agents().spawn(effect, found)
        if note:
            self._line(effect.job_id, effect.label, note)
        return runtime.name, route, session_id

    def _placed_agents(self) -> PlacedAgents:
        if self._placed is None:
            raise AdapterError("this daemon has no runtime with places", code="runtime")
        return self._placed

    async def _nudge_agent(self, effect: effects.NudgeAgent, cause: str) -> None:
        session = self.session(effect.agent_id, effect.job_id, effect.route)
        reason = await session.nudge(effect.nudge, effect.message)
        self._report(
            events.AgentNudged(agent_id=effect.agent_id, nudge=effect.nudge, reason=reason), cause
        )

    async def _answer_agent(self, effect: effects.AnswerAgent, cause: str) -> None:
        session = self.session(effect.agent_id, effect.job_id, effect.route)
        reason = await session.answer(effect.answer)
        fact = events.AgentAnswered(
            agent_id=effect.agent_id, prompt=effect.answer.prompt, reason=reason
        )
        self._report(fact, cause)

    async def _kill_agent(self, effect: effects.KillAgent, cause: str) -> None:
        try:
            session = self.session(effect.agent_id, effect.job_id, effect.route)
            await session.ask("POST", "signal", {"signal": "KILL"})
        except AdapterError as error:
            logger.warning("%s: kill agent: %s", cause, error, extra=log.ids(effect))

    async def _end_agent(self, effect: effects.EndAgent, cause: str) -> None:
        following = self._sessions.pop(effect.agent_id, None)
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        await self._keep_remains(effect.agent_id, effect.job_id, effect.route, "")
        if effect.place is None:
            session_id = await self.agents.end(effect.agent_id, effect.job_id, effect.route)
        elif why := self._why_out_of_reach(effect.place):
            session_id = ""
            self._line(effect.job_id, JOB, f"agent {effect.agent_id} may still run: {why}")
        else:
            # One that was just starting has no route yet, and may be there all the same.
            owner = effect.place.agent_id or effect.place.workspace_id
            session_id = await self._placed_agents().end(
                effect.agent_id,
                effect.job_id,
                effect.route or self._routes.get(owner, effect.place.route),
                is_alone=bool(effect.place.agent_id),
            )
            await self._leave_own_place(effect.place)
        self._report(events.AgentEnded(agent_id=effect.agent_id, session_id=session_id), cause)

    async def _leave_own_place(self, place: effects.CreateWorkspace) -> None:
        """Remove a place that was the agent's alone."""
        if not place.agent_id:
            return
        route = self._routes.pop(place.agent_id, place.route)
        order = effects.DeleteWorkspace(
            workspace_id=place.workspace_id,
            job_id=place.job_id,
            kind=place.kind,
            path=place.path,
            runtime=place.runtime,
            route=dict(route),
            agent_id=place.agent_id,
        )
        try:
            note = await self._runtime(place).remove(order)
        except AdapterError as error:  # the sweep finds it again
            logger.warning("remove the place of agent %s: %s", place.agent_id, error.message)
        else:
            if note:
                self._line(place.job_id, JOB, note)

    async def _keep_remains(
        self, agent_id: AgentId, job_id: JobId, route: Mapping[str, str], epitaph: str
    ) -> None:
        """Write down what a session leaves, while it can still be asked; once, as long as this daemon lives."""
        ear = self._ears.pop(agent_id, None)
        if not route:
            return
        if ear is not None:
            answers = await self.session(agent_id, job_id, route).catch_up(ear)
            ear.scribe.finish(self._now(), epitaph)
            self.book.close(agent_id)
            if not answers:
                return
        await self._note_remains(agent_id, job_id, route)

    async def _note_remains(
        self, agent_id: AgentId, job_id: JobId, route: Mapping[str, str]
    ) -> None:
        remains = await self.session(agent_id, job_id, route).remains()
        if remains.usage is not None:
            self.on_usage(agent_id, remains.usage)
        self.book.keep(
            agent_id, screen=remains.screen, transcript=remains.transcript, usage=remains.usage
        )

    def session(self, agent_id: AgentId, job_id: JobId, route: Mapping[str, str]) -> Session:
        """The client of an agent's sidecar."""
        if "socket" in route or self._placed is None:
            return self.agents.session(agent_id, job_id, route.get("socket", ""))
        return self._placed.session(agent_id, route)

    def usage(self, agent_id: AgentId) -> dict[str, Any] | None:
        """What a session has spent so far, as far as is known."""
        ear = self._ears.get(agent_id)
        if ear is not None and ear.usage is not None:
            return ear.usage
        return self.book.usage(agent_id)

    async def _run_gate(self, effect: effects.RunGate, cause: str) -> None:
        """The command of a gate runs like a step: once, and leaving nothing behind."""
        run_id = _gate_run_id(effect.job_id, effect.agent_id, effect.gate)
        printed = self.shell.folder(run_id) / "output"
        code: int | None = None
        try:
            token = self.tokens.of_agent(effect.job_id, effect.agent_id)
            spec = RunSpec(
                run_id=run_id,
                script=effect.script,
                env=self._env(effect.env, token, effect.place),
                cwd=Path(effect.cwd),
            )
            shell = await self._begin(spec, effect.place)
            async with asyncio.timeout(GATE_SECONDS):
                found = await shell.wait(run_id)
            code, output = found.status, _end_of(printed) or found.detail
        except TimeoutError:
            await self._shell_of(run_id, effect.place).end(run_id, grace_seconds=1.0)
            output = f"it took longer than {GATE_SECONDS:g} s"
        except AdapterError as error:
            output = _sentence(error)
        if effect.place is None:
            self.shell.remove(run_id)
        else:
            await self._forget_there(run_id)
        fact = events.GateFinished(
            agent_id=effect.agent_id,
            gate=effect.gate,
            exit_code=code,
            output=output.strip()[-GATE_OUTPUT:],
        )
        self._report(fact, cause)

    # Notifications

    async def _deliver_notification(self, effect: effects.DeliverNotification, cause: str) -> None:
        self._report(await self.notices.deliver(effect), cause)

    async def finish_deliveries(self) -> None:
        """Give what is on its way a moment; the next daemon sends the rest, perhaps for the second time."""
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=LAST_SECONDS)

    # Locals and refs

    async def _evaluate(self, effect: effects.EvaluateJob, cause: str) -> None:
        values = dict(effect.values)
        added: dict[str, str] = {}
        items: list[tuple[str, Text]] = []
        if effect.ref is not None:
            items.append(("source.ref", effect.ref))
        items += [(f"local.{name}", text) for name, text in effect.locals]
        async with self._busy[effect.job_id]:  # what an earlier evaluation left is ended first
            for name, text in items:
                try:
                    value = await self._evaluate_one(effect, name, text, values)
                except OjError as error:
                    message = f"{name} evaluation failed: {error.message}"
                    fact = events.JobEvaluateFailed(job_id=effect.job_id, error=message)
                    self._report(fact, cause)
                    return
                added[name] = values[name] = value
            self._report(events.JobEvaluated(job_id=effect.job_id, vars=added), cause)

    async def _evaluate_one(
        self, effect: effects.EvaluateJob, name: str, text: Text, values: dict[str, str]
    ) -> str:
        """The value of one text. It runs like a step, so that it, too, runs once: its folder stays until EndLocals."""
        if text.shell is None:
            return template.render(text.text, values, effect.env)
        run_id = f"{effect.job_id}/{name}"
        folder = self.shell.folder(run_id)
        errors = folder / "errors"
        if effect.place is None:
            script = f"exec 2>{shlex.quote(str(errors))}\n{text.shell.script}"
        else:
            script = f"{_ERRORS_LAST}\n{text.shell.script}"
        bound = template.resolve(text.shell.bindings, values)
        token = self.tokens.of_locals(effect.job_id)
        env = self._env({**effect.env, **bound}, token, effect.place)
        spec = RunSpec(run_id=run_id, script=script, env=env, cwd=Path(effect.cwd))
        shell = await self._begin(spec, effect.place)
        try:
            async with asyncio.timeout(EVALUATE_SECONDS):
                found = await shell.wait(run_id)
        except TimeoutError:
            await shell.end(run_id, grace_seconds=1.0)
            raise AdapterError(f"it took longer than {EVALUATE_SECONDS:g} s") from None
        output, problem = _text_of(folder / "output"), _text_of(errors)
        if found.status != 0:
            end = f"exit code {found.status}" if found.status is not None else found.detail
            raise AdapterError(problem.strip() or output.strip() or end)
        if len(output.encode()) > template.MAX_VALUE_BYTES:
            raise AdapterError(
                f"its value is larger than {template.MAX_VALUE_BYTES // 1024} KB, the most that one"
                " variable of a step can hold"
            )
        return output.rstrip("\n")

    async def _end_locals(self, job_id: JobId) -> None:
        task = self._evaluating.pop(job_id, None)
        is_cut = task is not None and task.cancel()
        async with self._busy[job_id]:
            folder = self.shell.root / job_id
            runs = [run for run in folder.iterdir() if "." in run.name] if folder.is_dir() else []
            run_ids = [f"{job_id}/{run.name}" for run in runs]
            there = [run_id for run_id in run_ids if begun_in(self.shell.folder(run_id))]
            here = [run_id for run_id in run_ids if run_id not in there]
            if is_cut and here:
                await self.shell.end(*here)
            for run_id in here:
                self.shell.remove(run_id)
            for run_id in there:
                if is_cut and self._places is not None:
                    route = begun_in(self.shell.folder(run_id))
                    await PlaceShell(self._places, route, self.shell.folder).end(run_id, 1.0)
                await self._forget_there(run_id)
        if job_id not in self._evaluating:
            self._busy.pop(job_id, None)

    # Workspaces

    async def _create_workspace(self, effect: effects.CreateWorkspace, cause: str) -> None:
        fact: AnyEvent
        async with self._busy[effect.workspace_id]:
            try:
                base = ""
                notes: tuple[str, ...] = ()
                route: dict[str, str] = {}
                if effect.runtime:
                    ready = await self._runtime(effect).ready(effect)
                    base, notes, route = ready.base, ready.notes, dict(ready.route)
                    self._routes[effect.workspace_id] = route
                elif effect.kind is WorkspaceKind.WORKTREE:
                    base = await git.create_worktree(
                        Path(effect.repo),
                        Path(effect.path),
                        branch=effect.branch,
                        ref=effect.ref or "HEAD",
                        root=self._workspaces,
                    )
                elif effect.kind is WorkspaceKind.CLONE:
                    base, notes = await self._clone(effect)
                else:
                    await asyncio.to_thread(
                        git.create_folder, Path(effect.path), root=self._workspaces
                    )
                fact = events.WorkspaceReady(
                    workspace_id=effect.workspace_id, base=base, notes=notes, route=route
                )
            except AdapterError as error:
                fact = events.WorkspaceFailed(
                    workspace_id=effect.workspace_id, reason=_sentence(error)
                )
        self._report(fact, cause)

    async def _clone(self, effect: effects.CreateWorkspace) -> tuple[str, tuple[str, ...]]:
        made = await git.create_clone(
            effect.repo,
            Path(effect.path),
            start=effect.start,
            head=effect.head,
            folder=effect.folder,
            branch=effect.branch,
            ref=effect.ref,
            all_branches=effect.all_branches,
            root=self._workspaces,
            environ=self._git_environ,
        )
        return made.base, made.notes

    async def _delete_workspace(self, effect: effects.DeleteWorkspace, cause: str) -> None:
        fact: AnyEvent
        creating = self._creating.pop(effect.workspace_id, None)
        if creating is not None:
            creating.cancel()  # of a cancelled job, which nobody waits minutes for
        async with self._busy[effect.workspace_id]:
            try:
                note, kept = "", ""
                if effect.runtime:
                    route = self._routes.pop(effect.workspace_id, effect.route)
                    gone = msgspec.structs.replace(effect, route=dict(route))
                    note = await self._runtime(effect).remove(gone)
                elif effect.kind is WorkspaceKind.WORKTREE:
                    note = await git.remove_worktree(
                        Path(effect.repo),
                        Path(effect.path),
                        branch=effect.branch,
                        base=effect.base,
                        own_branch=effect.own_branch,
                        root=self._workspaces,
                    )
                elif effect.kind is WorkspaceKind.CLONE:
                    kept = await git.remove_clone(
                        Path(effect.path),
                        base=effect.base,
                        force=effect.force,
                        root=self._workspaces,
                        environ=self._git_environ,
                    )
                else:
                    await asyncio.to_thread(
                        git.remove_folder, Path(effect.path), root=self._workspaces
                    )
                if kept:
                    fact = events.WorkspaceKept(workspace_id=effect.workspace_id, reason=kept)
                else:
                    fact = events.WorkspaceDeleted(
                        workspace_id=effect.workspace_id, job_id=effect.job_id, note=note
                    )
            except AdapterError as error:
                fact = events.WorkspaceDeleteFailed(
                    workspace_id=effect.workspace_id, reason=_sentence(error)
                )
        self._busy.pop(effect.workspace_id, None)
        self._report(fact, cause)

    # Beginning and end

    def unknown_after_reboot(self, active: Iterable[tuple[JobId, int]]) -> list[events.StepExited]:
        """Runs of which the machine kept no trace when it went down: what they write is not synced, so they may have begun."""
        if not self._boot.exists() or self._boot.read_text() == lock.boot_id():
            return []
        error = (
            "interrupted: the machine was restarted, and whether the step had begun is not known"
        )
        return [
            events.StepExited(job_id=job_id, run=run, error=error)
            for job_id, run in active
            if self.shell.adopt(_run_id(job_id, run)).state is RunState.NEVER
        ]

    def note_boot(self) -> None:
        """Remember which boot of the machine the runs of this daemon belong to."""
        if not self._boot.exists() or self._boot.read_text() != lock.boot_id():
            replace_file(self._boot, lock.boot_id().encode(), durable=True)

    async def clear_leftovers(
        self,
        active: Iterable[tuple[JobId, int]],
        sessions: Iterable[Agent],
        evaluating: Collection[JobId],
    ) -> list[str]:
        """End processes, and remove folders, of what no job has or waits for; returns the run ids."""
        known = {_run_id(job_id, run) for job_id, run in active}
        for agent in sessions:
            known |= {
                self.agents.run_id(agent.id, agent.job_id),
                _gate_run_id(agent.job_id, agent.id, agent.gates),
            }
        jobs = {run_id.split("/", 1)[0] for run_id in known} | set(evaluating)
        left = {
            survivor.run_id
            for survivor in self.shell.survivors()
            if survivor.run_id not in known
            and "/" in survivor.run_id
            and not ("." in survivor.run_id and survivor.run_id.split("/", 1)[0] in evaluating)
        }
        if left:
            await self.shell.end(*left)
        for folder in self.shell.root.iterdir() if self.shell.root.is_dir() else ():
            if not folder.is_dir():
                continue
            if folder.name not in jobs:
                left.update(f"{folder.name}/{run.name}" for run in folder.iterdir())
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                continue
            for run in folder.iterdir():
                run_id = f"{folder.name}/{run.name}"
                if run_id not in known and not ("." in run.name and folder.name in evaluating):
                    self.shell.remove(run_id)
        return sorted(left)

    def chore(self, work: Coroutine[object, object, None]) -> None:
        """Run something that goes on until `stop`."""
        self._chores.add(self.keep(work))

    def hold(self) -> None:
        """Begin nothing any more; what was begun goes on, and its answers are still taken in."""
        self._holding = True

    async def idle(self, *, steps: bool = False) -> None:
        """Wait until no order is being carried out, but for what simply runs: steps (unless asked for: those of
        this process's own container), locals, sessions, places that come up, and notifications on their way."""
        while True:
            running = {
                *self._evaluating.values(),
                *self._sessions.values(),
                *self._placing,
                *self._deliveries,
            }
            running |= {
                task
                for run_id, task in self._watched.items()
                if not steps or run_id in self._elsewhere
            }
            busy = self._tasks - self._chores - running
            if not busy:
                return
            await asyncio.wait(busy)

    async def stop(self) -> None:
        """Carry out nothing any more; running steps go on without us."""
        self._stopped = True
        self.timers.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Ear:
    """Hears what one agent does."""

    def __init__(self, scribe: Scribe, now: Callable[[], int], grew: Callable[[], None]) -> None:
        self.scribe = scribe
        self.position = 0
        self.usage: dict[str, Any] | None = None
        self.on_usage: Callable[[Mapping[str, Any]], None] = _ignore
        self._now = now
        self._grew = grew

    def hear(self, frame: Mapping[str, Any]) -> None:
        """Take one frame."""
        match frame.get("event"):
            case "usage:update":
                self.usage = dict(frame.get("cumulative") or {})
                self.on_usage(self.usage)
            case "lagged" if frame.get("stream") == "messages":
                self.position += int(frame.get("missed", 0))
                self.scribe.skip(self.position, self._now())
            case "message:raw":
                self.position = int(frame.get("pos", 0))
                data = frame.get("data")
                if isinstance(data, dict) and self.scribe.take(
                    data, self.position, is_old=bool(frame.get("old")), at=self._now()
                ):
                    self._grew()
            case _:
                pass


def _ignore(*_: object) -> None:
    """Stand in where nobody counts."""


def _epitaph(exited: events.AgentExited) -> str:
    if exited.reason:
        return exited.reason
    return f"it exited with code {exited.exit_code}" if exited.exit_code else ""


def _gate_run_id(job_id: JobId, agent_id: AgentId, gate: int) -> str:
    return f"{job_id}/gate-{agent_id}-{gate}"


def _run_id(job_id: JobId, run: int) -> str:
    return f"{job_id}/{run}"


def _sentence(error: OjError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _text_of(path: Path) -> str:
    """What the file holds, as far as a variable could."""
    try:
        with path.open("rb") as file:
            return masked(file.read(template.MAX_VALUE_BYTES + 1)).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _end_of(path: Path) -> str:
    """The last lines of the file, enough for what is kept of them."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4 * GATE_OUTPUT))
            return masked(file.read(4 * GATE_OUTPUT)).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _crashed(effect: AnyEffect, error: str) -> AnyEvent | None:
    match effect:
        case effects.StartStep(job_id=job_id, run=run) | effects.EndStep(job_id=job_id, run=run):
            return events.StepExited(job_id=job_id, run=run, error=error)
        case effects.SpawnAgent(agent_id=agent_id, route=route):
            if route:
                return events.AgentExited(agent_id=agent_id, reason=error)
            return events.AgentSpawnFailed(agent_id=agent_id, reason=error)
        case effects.NudgeAgent(agent_id=agent_id, nudge=nudge):
            return events.AgentNudged(agent_id=agent_id, nudge=nudge, reason=error)
        case effects.AnswerAgent(agent_id=agent_id, answer=answer):
            return events.AgentAnswered(agent_id=agent_id, prompt=answer.prompt, reason=error)
        case effects.EndAgent(agent_id=agent_id):
            return events.AgentEnded(agent_id=agent_id)
        case effects.RunGate(agent_id=agent_id, gate=gate):
            return events.GateFinished(agent_id=agent_id, gate=gate, exit_code=None, output=error)
        case effects.DeliverNotification(notification_id=notification_id, sink=sink):
            return events.NotificationDropped(
                notification_id=notification_id, sink=sink, reason=error
            )
        case effects.EvaluateJob(job_id=job_id):
            return events.JobEvaluateFailed(job_id=job_id, error=error)
        case effects.CreateWorkspace(workspace_id=workspace_id):
            return events.WorkspaceFailed(workspace_id=workspace_id, reason=error)
        case effects.DeleteWorkspace(workspace_id=workspace_id):
            return events.WorkspaceDeleteFailed(workspace_id=workspace_id, reason=error)
        case _:
            return None
