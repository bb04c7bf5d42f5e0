"""The single writer: one synchronous turn per input, then the log, then the world.

Rule: a reply is given and an order leaves only when the record of their turn is on disk, in the order of the records. What
happens between two turns of the event loop shares one sync. When the log fails, nothing is answered and nothing leaves any
more: the daemon ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from oj_daemon import log
from oj_daemon.core import machine
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent, JobDeleted, Record
from oj_daemon.core.state import Policy, Resolved, State, StateData, Turn
from oj_daemon.errors import StoreError
from oj_daemon.store import snapshot
from oj_daemon.store.migrate import VERSION, migrate
from oj_daemon.store.wal import Wal
from oj_daemon.wire.names import ID_ALPHABET, ID_LENGTH, AgentId, DecisionId, JobId, WorkspaceId
from oj_daemon.wire.replies import AnyReply
from oj_daemon.wire.requests import Change

logger = logging.getLogger(__name__)

SNAPSHOT_SECONDS: Final = 60.0
"""How often the engine asks itself whether a snapshot is worth it."""
FENCE_SECONDS: Final = 5.0
"""How often a daemon without a file lock looks for another one."""
SNAPSHOT_RECORDS: Final = 2_000
"""Fewer new records than this are left to replay."""
RECENT: Final = 2_000
"""Records whose facts are kept for whoever watches; older ones are read from the log."""
GONE: Final = 10_000
"""Jobs that are remembered as pruned, for whoever watches."""


def now_ms() -> int:
    """Wall clock, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def fresh(prefix: str) -> str:
    """A new random id."""
    number = int.from_bytes(secrets.token_bytes(10), "big")
    digits = []
    for _ in range(ID_LENGTH):
        number, digit = divmod(number, 32)
        digits.append(ID_ALPHABET[digit])
    return prefix + "".join(digits)


class Told(NamedTuple):
    """A record whose facts were told."""

    seq: int
    at: int
    cause: str
    facts: list[AnyEvent]


class Engine:
    """State, its log, and the turns; everything but the callbacks of the log belongs to the event loop's thread."""

    def __init__(
        self,
        state: State,
        wal: Wal,
        snapshots: Path,
        policy: Policy,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.state = state
        self.policy = policy
        self.warnings = warnings
        self.now: Callable[[], int] = now_ms
        self.guard: Callable[[], None] = _ignore
        """Raises StoreError when this daemon may act no more, whatever its log says."""
        self.on_effect: Callable[[AnyEffect, int], None] = _ignore
        """Called for each order, with the number of the record it comes from, once that is on disk."""
        self.on_facts: Callable[[Iterable[AnyEvent], int], None] = _ignore
        """Called with the facts of each record and its time, once it is on disk."""
        self._wal = wal
        self._snapshots = snapshots
        self._loop = asyncio.get_running_loop()
        self._encoder = msgspec.json.Encoder()
        self._unsaved: deque[tuple[int, int, list[AnyEvent], list[AnyEffect]]] = deque()
        """Turns that are not on disk yet, or whose orders have not left."""
        self._askers: _Waiters = deque()
        """Who waits for a change of its own to be on disk."""
        self._waiters: _Waiters = deque()
        """Who waits for that, and for it to be told and ordered."""
        self._flush_due = False
        self._leave_due = False
        self._closed = False
        self._changed: dict[JobId, int] = {}
        """Record of the last change of each job; those that changed last come last."""
        self._gone: deque[tuple[int, JobDeleted]] = deque(maxlen=GONE)
        """Jobs that were pruned, with the record that says so."""
        self.recent: deque[Told] = deque(maxlen=RECENT)
        """The newest records that have facts, oldest first; not all of them need be on disk."""
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self.saved_seq = 0
        """Number of the last record that the newest snapshot holds."""
        self.saved_at = 0
        """When that was written, epoch milliseconds; 0 without one."""
        self._saving = False

    @classmethod
    async def open(
        cls,
        state_dir: Path,
        policy: Policy,
        *,
        epoch: int = 1,
        recover: bool = False,
        guard: Callable[[], None] | None = None,
    ) -> Engine:
        """Read snapshot and log; from here on no older process can write. Raises StoreError."""
        wal = await asyncio.to_thread(Wal.open, state_dir / "wal", epoch=epoch)
        try:
            state, loaded = await asyncio.to_thread(
                _replay, wal, state_dir / "snapshots", recover=recover
            )
        except BaseException:
            wal.close()
            raise
        engine = cls(state, wal, state_dir / "snapshots", policy, (*loaded.warnings, *wal.warnings))
        engine.saved_seq, engine.saved_at = loaded.seq, loaded.at
        engine.guard = guard or _ignore
        wal.start(
            lambda seq: engine._call_soon(engine._release, seq),
            lambda error: engine._call_soon(engine.fail, error),
        )
        return engine

    @property
    def seq(self) -> int:
        """Number of the last record."""
        return self._wal.seq

    @property
    def epoch(self) -> int:
        """Which daemon of this state folder this is."""
        return self._wal.epoch

    @property
    def durable_seq(self) -> int:
        """Number of the last record that is on disk."""
        return self._wal.durable

    @property
    def log_bytes(self) -> int:
        """Size of the log."""
        return self._wal.size

    def watch_commits(self, tell: Callable[[float, int], None]) -> None:
        """Call with seconds and bytes of each batch of records that got onto the disk; from any thread."""
        self._wal.on_commit = tell

    # Input

    async def submit(
        self,
        request: Change,
        resolved: Resolved | None = None,
        *,
        started_by: str = "",
        secret_hash: str = "",
    ) -> AnyReply:
        """Answer a request that changes something; Rejected comes out of here. Returns when it is on disk."""
        turn = self._turn(resolved, started_by=started_by, secret_hash=secret_hash)
        answer = machine.admit(self.state, request, turn)
        if answer.facts:
            self._record(
                machine.perform(self.state, answer.facts, turn), turn, type(request).__name__
            )
        if self._wal.durable < self._wal.seq:
            await self._wait(self._askers)
        return answer.reply

    def report(self, fact: AnyEvent, cause: str) -> None:
        """Take in what the world says."""
        if self._closed:
            return
        turn = self._turn(None)
        outcome = machine.perform(self.state, [fact], turn)
        if outcome.facts:
            self._record(outcome, turn, cause)

    def recover(self) -> None:
        """Give the orders whose answers the last daemon did not see."""
        turn = self._turn(None)
        outcome = machine.recover(self.state, turn)
        if outcome.facts or outcome.effects:
            self._record(outcome, turn, f"start of epoch {self.epoch}")

    def _turn(
        self, resolved: Resolved | None, *, started_by: str = "", secret_hash: str = ""
    ) -> Turn:
        if not self._may_act():
            raise self._ending()
        return Turn(
            now=self.now(),
            fresh=fresh,
            policy=self.policy,
            resolved=resolved,
            started_by=started_by,
            secret_hash=secret_hash,
        )

    def _record(self, outcome: machine.Outcome, turn: Turn, cause: str) -> None:
        seq = self._wal.seq
        if outcome.facts:
            seq = self._wal.append(
                self._encoder.encode(Record(at=turn.now, cause=cause, facts=tuple(outcome.facts)))
            )
            self.recent.append(Told(seq, turn.now, cause, outcome.facts))
        self._unsaved.append((seq, turn.now, outcome.facts, outcome.effects))
        for fact in outcome.facts:
            job_id = self.job_of(fact)
            if job_id is None:
                continue
            self._changed.pop(job_id, None)
            if job_id in self.state.jobs:
                self._changed[job_id] = seq
            if isinstance(fact, JobDeleted):
                self._gone.append((seq, fact))
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def job_of(self, fact: AnyEvent) -> JobId | None:
        """The job that a fact is news of: also one about its agents, decisions and workspace."""
        job_id: JobId | None = getattr(fact, "job_id", None)
        if job_id is not None:
            return job_id
        decision = self.state.decisions.get(getattr(fact, "decision_id", DecisionId("")))
        agent = self.state.agents.get(getattr(fact, "agent_id", AgentId("")))
        workspace = self.state.workspaces.get(getattr(fact, "workspace_id", WorkspaceId("")))
        owned = decision or agent or workspace
        return owned.job_id if owned is not None else None

    # Output

    async def durable(self) -> None:
        """Wait until everything that was decided so far is on disk, and told in the job logs."""
        if self._wal.durable >= self._wal.seq and not self._unsaved:
            return
        if self._failure.done():
            raise self._ending()
        await self._wait(self._waiters)

    async def _wait(self, waiters: _Waiters) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiters.append((self._wal.seq, waiter))
        await waiter

    def _flush(self) -> None:
        self._flush_due = False
        if self._failure.done():
            return
        if self._wal.commit():
            self._release(self._wal.durable)

    def _release(self, durable: int) -> None:
        """All up to this record is on disk: whoever asked is answered first, and the world, which takes longer, is next."""
        if not self._may_act():
            return
        _wake(self._askers, durable)
        if not self._leave_due:
            self._leave_due = True
            self._loop.call_soon(self._leave)

    def _leave(self) -> None:
        """Tell what happened, and let the orders go."""
        self._leave_due = False
        durable = self._wal.durable
        while self._unsaved and self._unsaved[0][0] <= durable and self._may_act():
            seq, at, facts, effects = self._unsaved.popleft()
            if logger.isEnabledFor(logging.DEBUG):
                for fact in facts:
                    text = msgspec.json.encode(fact).decode()
                    logger.debug("#%d %s", seq, text, extra=log.ids(fact))
            self.on_facts(facts, at)
            for effect in effects:
                if not self._may_act():
                    return
                self.on_effect(effect, seq)
        if not self._failure.done():
            _wake(self._waiters, durable)
            self.touch()

    def _ending(self) -> StoreError:
        """Why nothing is taken in any more; the Lease may have gone, or the disk."""
        return StoreError(
            f"the daemon can no longer write its log and is ending: {self._failure.exception()}",
            code="unavailable",
            hint="oj daemon status",
        )

    def _call_soon(self, callback: Callable[..., None], *args: object) -> None:
        """From the writer thread; a loop that has ended needs no news."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    # Watching

    def touch(self) -> None:
        """Wake everybody who waits for news."""
        if not self._news.done():
            self._news.set_result(None)
        self._news = self._loop.create_future()

    def news(self) -> asyncio.Future[None]:
        """Done when something has changed after this call."""
        return asyncio.shield(self._news)

    def changed_since(self, job_id: JobId, seq: int) -> bool:
        """Whether the job changed after that record; jobs that this daemon has not touched count as of its start."""
        return self._changed.get(job_id, 0) > seq

    def changed_after(self, seq: int) -> Iterator[JobId]:
        """Jobs that changed after that record, those that changed last first."""
        for job_id, at in reversed(self._changed.items()):
            if at <= seq:
                return
            yield job_id

    def gone_after(self, seq: int, project: str | None) -> list[JobId] | None:
        """Jobs that were pruned after that record; None when that is not known any more."""
        if len(self._gone) == GONE and self._gone[0][0] > seq:
            return None
        return [
            fact.job_id for at, fact in self._gone if at > seq and project in (None, fact.project)
        ]

    # Failing and ending

    def _may_act(self) -> bool:
        """Whether answers may be given and orders may leave at this very moment."""
        if not self._failure.done():
            try:
                self.guard()
            except StoreError as error:
                self.fail(error)
        return not self._failure.done()

    def fail(self, error: StoreError) -> None:
        """Durability is broken: nothing is answered and nothing leaves any more."""
        if self._failure.done():
            return
        self._failure.set_exception(error)
        self._failure.exception()  # whoever waits for `broken` sees it; without that it would be reported as lost
        for _, waiter in (*self._askers, *self._waiters):
            if not waiter.done():
                waiter.set_exception(
                    StoreError(
                        f"{error.message}; whether this request was recorded shows when the daemon is back",
                        code="unavailable",
                        hint=error.hint,
                    )
                )

    @property
    def broken(self) -> asyncio.Future[None]:
        """Gets the StoreError when durability breaks; until then it is pending."""
        return self._failure

    async def settle(self) -> None:
        """Take nothing in any more, and wait until what was taken in is on disk."""
        await self.durable()
        self._closed = True

    async def snapshot(self, *, least: int = 1) -> None:
        """Write the state down if at least `least` records came since, and drop the log that it makes needless."""
        if self._saving or self._wal.seq - self.saved_seq < least or self._failure.done():
            return
        self._saving = True
        try:
            while self._wal.durable < self._wal.seq:
                await self.durable()
            # From here to `rotate` nothing else can happen: the state of exactly this record.
            seq = self._wal.seq
            body = self._encoder.encode(self.state.dump())
            self._wal.rotate()
            await asyncio.to_thread(self._save, seq, body)
            self.saved_seq, self.saved_at = seq, self.now()
        except StoreError as error:
            self.fail(error)
        finally:
            self._saving = False

    def _save(self, seq: int, body: bytes) -> None:
        drop = snapshot.write(
            self._snapshots,
            body,
            seq=seq,
            epoch=self.epoch,
            fence=self.fence,
        )
        self._wal.drop_before(drop)

    def fence(self) -> None:
        """Raise StoreError when another daemon acts now; looks into the folder of the log."""
        self.guard()
        self._wal.check_fence()

    async def keep_watch(self) -> None:
        """Find out about a newer daemon also while nothing is written, and report what a replaced one still wrote."""
        while True:
            await asyncio.sleep(FENCE_SECONDS)
            try:
                strays = await asyncio.to_thread(self._look_around)
            except StoreError as error:
                if error.code == "replaced":
                    self.fail(error)
                    return
                logger.warning("%s", error)  # a write will tell whether it is as bad as that
                continue
            for stray in strays:
                logger.warning("%s", stray)
            self.warnings += tuple(strays)

    def _look_around(self) -> list[str]:
        self._wal.check_fence()
        return self._wal.new_strays()

    async def keep_snapshots(self) -> None:
        """Write a snapshot whenever one is worth it."""
        while True:
            await asyncio.sleep(SNAPSHOT_SECONDS)
            await self.snapshot(least=SNAPSHOT_RECORDS)

    async def close(self) -> None:
        """Write a last snapshot and close the log."""
        self._closed = True
        try:
            await self.snapshot()
        finally:
            await asyncio.to_thread(self._wal.close)


def _replay(wal: Wal, snapshots: Path, *, recover: bool) -> tuple[State, snapshot.Loaded]:
    loaded = snapshot.load(snapshots, fences=wal.fences, recover=recover)
    if loaded.body is None:
        state = State()
    else:
        try:
            data = _decode_state(loaded.version, loaded.body)
        except msgspec.MsgspecError as exc:
            raise StoreError(
                f"snapshot of record {loaded.seq} does not have the form of this version: {exc}",
                code="corrupt",
            ) from exc
        state = State.load(data)
    decode = msgspec.json.Decoder(Record).decode
    apply = machine.apply
    for seq, payload in wal.replay(after_seq=loaded.seq, recover=recover):
        try:
            record = decode(payload)
            for fact in record.facts:
                apply(state, fact, record.at)
        except (msgspec.MsgspecError, LookupError) as exc:
            raise StoreError(
                f"record {seq} of the log cannot be applied: {exc!r}",
                code="corrupt",
                hint="was it written by a newer version of oj? oj daemon start with that version",
            ) from exc
    return state, loaded


def _decode_state(version: int, body: bytes) -> StateData:
    if version == VERSION:
        return msgspec.json.decode(body, type=StateData)
    return msgspec.convert(migrate(version, msgspec.json.decode(body)), type=StateData)


_Waiters = deque[tuple[int, asyncio.Future[None]]]


def _wake(waiters: _Waiters, durable: int) -> None:
    while waiters and waiters[0][0] <= durable:
        _, waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)


def _ignore(*_: object) -> None:
    """Stand in for callbacks that are not set yet."""
