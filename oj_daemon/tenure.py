"""Whether this daemon may act: it has been elected, or nobody elects here.

Rule: nothing of the state folder is touched before the election, and nothing at all is done after the tenure: when it is
over, the process ends on the spot, in the middle of whatever it was doing, and leaves everything to the next holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, NamedTuple

from oj_daemon.errors import OjError
from oj_daemon.settings import Choice, Settings

if TYPE_CHECKING:
    from oj_daemon.adapters.kubernetes.api import Kube, NoteApiCall
    from oj_daemon.adapters.kubernetes.lease import Elector, OnLease

logger = logging.getLogger(__name__)


class Tenure:
    """What an elected daemon, or one that needs no election, has to know."""

    def __init__(
        self,
        guard: Callable[[], None] | None = None,
        choices: tuple[Choice, ...] = (),
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.guard = guard
        """Raises StoreError when the tenure is over; None: it has no end."""
        self.choices = choices
        self.warnings = warnings
        self.give_back = True
        """The next daemon may begin as soon as this one has ended; set to False when something might still be at work."""


class Hooks(NamedTuple):
    """Who is told how the election goes."""

    on_loss: Callable[[str], None]
    """Told why the tenure is over, and is to end the process."""
    on_lease: OnLease | None = None
    """Told whether the Lease is held, and why or why not: for readiness."""
    note_api_call: NoteApiCall | None = None
    """Told of each request to the API server: for metrics."""


class Pulse(selectors.DefaultSelector):
    """The selector of the event loop: has a look around before anything that the loop was woken for is done.

    A process that was stopped, or a machine that slept, goes on exactly here, with everything due at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_wake: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events."""
        ready = super().select(timeout)
        self.on_wake()
        return ready

    def loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits here."""
        return asyncio.SelectorEventLoop(self)


def refuse_nonsense(config: Settings) -> None:
    """Raise OjError when the settings of the Lease contradict each other."""
    if is_contested(config):
        from oj_daemon.adapters.kubernetes import lease  # noqa: PLC0415 - as below

        lease.terms(config)


@contextlib.asynccontextmanager
async def elected(
    config: Settings,
    asked: asyncio.Future[None],
    hooks: Hooks,
    pulse: Pulse | None = None,
) -> AsyncIterator[Tenure | None]:
    """Wait to be elected, and keep the Lease while the block runs; gives None when `asked` to end before.

    A block that ends well gives the Lease back; when `on_loss` returns, the block is cancelled and StoreError comes out.
    """
    if not is_contested(config):
        reason = "OJ_LEASE" if config.lease == "off" else f"runtime {config.runtime}"
        yield Tenure(choices=(Choice("lease_holder", "none", reason),))
        return
    from oj_daemon.adapters.kubernetes import api  # noqa: PLC0415 - 0.5 s, where daemons are elected

    try:
        kube = await api.connect(config, note_api_call=hooks.note_api_call)
    except api.KubeError as error:
        yield _unelected(config, error)
        return
    try:
        elector = _elector(config, kube, hooks)
        try:
            is_elected = await _acquire(elector, asked)
        except api.KubeError as error:
            yield _unelected(config, error, has_rival=elector.has_rival)
            return
        if not is_elected:
            logger.info("ended while standing by")
            yield None
            return
        async with _kept(elector, hooks.on_loss, pulse) as tenure:
            yield tenure
    finally:
        await kube.close()


def is_contested(config: Settings) -> bool:
    """Whether this daemon has to be elected before it acts."""
    return config.lease == "on" or (config.lease == "auto" and config.runtime == "kubernetes")


def _unelected(config: Settings, error: OjError, *, has_rival: bool = False) -> Tenure:
    """What was asked for by name works or the daemon ends; else it goes on alone, and says so.

    Never beside a holder that was seen: then there is a Lease, and something else is wrong for the moment.
    """
    if config.lease == "on" or has_rival:
        raise OjError(
            f"OJ_LEASE={config.lease}: {error.message}",
            code="unavailable",
            hint=error.hint or "unset OJ_LEASE",
        ) from error
    return Tenure(
        choices=(Choice("lease_holder", "none", "the cluster does not let us use a Lease"),),
        warnings=(f"no Lease keeps a second daemon away: {error.message}",),
    )


def _elector(config: Settings, kube: Kube, hooks: Hooks) -> Elector:
    from oj_daemon.adapters.kubernetes import lease  # noqa: PLC0415 - as above

    identity = lease.new_identity(config.pod_name)
    elector = lease.Elector(kube, config.lease_name, identity, lease.terms(config))
    if hooks.on_lease is not None:
        elector.on_lease = hooks.on_lease
    return elector


async def _acquire(elector: Elector, asked: asyncio.Future[None]) -> bool:
    """Whether we got the Lease before we were asked to end."""
    limit = asyncio.timeout(None)

    def end(_: asyncio.Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # elected at the same moment
            limit.reschedule(asyncio.get_running_loop().time())

    try:
        async with limit:
            asked.add_done_callback(end)
            try:
                await elector.acquire()
            finally:
                asked.remove_done_callback(end)
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


@contextlib.asynccontextmanager
async def _kept(
    elector: Elector, on_loss: Callable[[str], None], pulse: Pulse | None
) -> AsyncIterator[Tenure]:
    def on_wake() -> None:
        if elector.why_over:
            on_loss(elector.why_over)

    async def keep() -> None:
        why = await elector.keep()
        on_loss(why)
        elector.guard()

    holder = Choice(
        "lease_holder",
        elector.identity,
        f"Lease {elector.where}, which changed hands {elector.transitions} times",
    )
    tenure = Tenure(elector.guard, (holder,))
    if pulse is not None:
        pulse.on_wake = on_wake
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keep())
            yield tenure
            keeping.cancel()
        if pulse is not None:
            pulse.on_wake = (
                _nothing  # nothing is left to be done, and giving it back ends the tenure
            )
        if tenure.give_back:
            await elector.release()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    finally:
        if pulse is not None:
            pulse.on_wake = _nothing


def _nothing() -> None:
    """Stand in for what an unelected daemon does not do."""
