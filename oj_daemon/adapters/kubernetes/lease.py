"""The Lease that elects one daemon among many.

Rule: no two clocks are ever compared. A Lease has run out when its record has not changed for as long as it says while we
watched; and its holder stops to believe in it earlier than that, counted from before it asked for its last renewal. Every
write carries the resourceVersion it is based on, so of two that try, one gets it.

What to do is decided by pure functions (`observe`, `decide`); `Elector` asks and writes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from oj_daemon.adapters.kubernetes.api import Kube, KubeError, Object
from oj_daemon.errors import OjError, StoreError
from oj_daemon.settings import Settings

logger = logging.getLogger(__name__)

GROUP: Final = "coordination.k8s.io/v1"
FATAL: Final = frozenset({400, 401, 403, 404, 405, 422})
"""Refusals that will not go away by themselves; asking for a Lease that is not there is none of them."""
_JITTER: Final = 0.2
_SUFFIX_BYTES: Final = 4
_LEAST_SECONDS: Final = 0.1

OnLease = Callable[[bool, str], None]
"""Told whether we hold the Lease, and why or why not."""


def boot_seconds() -> float:
    """Seconds that also pass while the process is stopped and while the machine sleeps; nobody can set them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def new_identity(pod_name: str) -> str:
    """Who we are to other daemons: a restarted container has the same pod's name and is somebody else."""
    return f"{pod_name or os.uname().nodename}_{secrets.token_hex(_SUFFIX_BYTES)}"


class Terms(NamedTuple):
    """How long things may take, in seconds."""

    duration: float
    """Others respect a Lease that is not renewed for this long."""
    renew: float
    """The holder acts for this long after it last asked for a renewal that it got."""
    retry: float
    """Period of renewing, and of trying to get it."""


def terms(settings: Settings) -> Terms:
    """The settings as seconds; OjError when a holder would act longer than others wait."""
    found = Terms(
        settings.lease_duration_ms / 1000,
        settings.lease_renew_ms / 1000,
        settings.lease_retry_ms / 1000,
    )
    if not found.retry < found.renew < found.duration:
        raise OjError(
            f"OJ_LEASE_RETRY_MS={settings.lease_retry_ms}, OJ_LEASE_RENEW_MS={settings.lease_renew_ms}, "
            f"OJ_LEASE_DURATION_MS={settings.lease_duration_ms}: each has to be less than the next",
            code="invalid",
            hint="unset them: 2 s, 10 s and 15 s are good values",
        )
    return found


class Seen(NamedTuple):
    """The Lease as it was when we last looked."""

    record: Object
    """Its `spec`; empty when it has none."""
    version: str
    """resourceVersion; empty when there is no Lease."""
    since: float
    """When, by our clock, we first saw this record."""

    @property
    def holder(self) -> str:
        """Who has it; empty when nobody does."""
        return str(self.record.get("holderIdentity") or "")


class Act(StrEnum):
    """What to do about the Lease now."""

    CREATE = "create"
    TAKE = "take"
    """Replace the record of a holder that gave it back or let it run out."""
    RENEW = "renew"
    WAIT = "wait"


NEVER: Final = Seen({}, "", 0.0)
"""What somebody has seen who has not looked yet."""


def observe(before: Seen, lease: Object | None, now: float) -> Seen:
    """What we have seen, now that this is the Lease (None: there is none)."""
    if lease is None:
        # Whoever had it may not know yet that somebody removed it: its time runs on.
        return before._replace(version="")
    record: Object = lease.get("spec") or {}
    version = str(lease["metadata"]["resourceVersion"])
    if record == before.record and before is not NEVER:
        return before._replace(version=version)
    return Seen(record, version, now)


def decide(seen: Seen, identity: str, now: float, terms: Terms) -> Act:
    """What a daemon of this identity does about the Lease."""
    if seen.version and seen.holder == identity:
        return Act.RENEW
    if seen.holder not in ("", identity) and now < seen.since + _asked_for(seen, terms):
        return Act.WAIT
    return Act.TAKE if seen.version else Act.CREATE


def _asked_for(seen: Seen, terms: Terms) -> float:
    """How long the holder wants its record to be respected."""
    asked = seen.record.get("leaseDurationSeconds")
    return float(asked) if isinstance(asked, int) and asked > 0 else terms.duration


def record(seen: Seen, identity: str, terms: Terms, wall: datetime) -> Object:
    """The record that makes us the holder, or keeps us so; the times in it are for people."""
    stamp = f"{wall.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    is_mine = seen.holder == identity
    transitions = int(seen.record.get("leaseTransitions") or 0)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": math.ceil(terms.duration),
        "acquireTime": seen.record.get("acquireTime", stamp) if is_mine else stamp,
        "renewTime": stamp,
        "leaseTransitions": transitions + (not is_mine and bool(seen.record)),
    }


class Elector:
    """Gets the Lease, keeps it, gives it back; belongs to the event loop's thread."""

    def __init__(
        self,
        kube: Kube,
        name: str,
        identity: str,
        terms: Terms,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self.name = name
        self.identity = identity
        self.transitions = 0
        """How often the Lease had changed hands when we got it."""
        self.on_lease: OnLease = _untold
        self._kube = kube
        self._terms = terms
        self._clock = clock
        self._seen = NEVER
        self._is_holder = False
        """We got the Lease."""
        self._until = 0.0
        """Our tenure ends at this time of our clock."""
        self._over = ""
        """Why our tenure has ended."""
        self._path = f"/apis/{GROUP}/namespaces/{kube.namespace}/leases"

    @property
    def where(self) -> str:
        """The Lease with its namespace."""
        return f"{self._kube.namespace}/{self.name}"

    @property
    def why_over(self) -> str:
        """Why we may not act; empty while we may."""
        if not self._is_holder:
            return self._over or f"the Lease {self.where} is not held"
        if not self._over and self._clock() >= self._until:
            # For good: whoever has seen this answer once does not get another one later.
            self._over = f"the Lease {self.where} was not renewed for {self._terms.renew:g} s"
        return self._over

    def is_held(self) -> bool:
        """Whether nobody else can be the holder at this moment."""
        return not self.why_over

    def guard(self) -> None:
        """Raise when our tenure is over: a stopped process wakes up in the middle of whatever it was doing."""
        why = self.why_over
        if why:
            raise lost(why)

    @property
    def has_rival(self) -> bool:
        """Whether somebody else was seen to hold it."""
        return self._seen.holder not in ("", self.identity)

    async def acquire(self) -> None:
        """Wait until we hold the Lease; KubeError when the API server will never let us."""
        told = ""
        while True:
            try:
                await self._look()
                if await self._try_to_get():
                    break
                news = f"standing by: the Lease {self.where} is held by {self._seen.holder or 'nobody'}"
            except KubeError as error:
                if error.status in FATAL or error.reason == "Credentials":
                    raise
                news = f"standing by: {error.message}"
            if news != told:
                told = news
                logger.info("%s", news)
                self.on_lease(False, news)
            await self._pause()
        self._is_holder = True
        logger.info(
            "holding the Lease %s as %s; it changed hands %d times",
            self.where,
            self.identity,
            self.transitions,
        )
        self.on_lease(True, f"the Lease {self.where} is held")

    async def keep(self) -> str:
        """Renew the Lease for as long as it can be done; returns why it cannot any more."""
        while not self.why_over:
            began = self._clock()
            try:
                await self._renew()
            except KubeError as error:
                left = max(0.0, self._until - self._clock())
                logger.warning(
                    "renewing the Lease %s failed, %.1f s left: %s", self.where, left, error.message
                )
            # A request that took its time to fail is made again soon: the connection it hung on is closed by now.
            pause = max(self._terms.retry - (self._clock() - began), self._terms.retry / 10)
            await asyncio.sleep(max(0.0, min(pause, self._until - self._clock())))
        self.on_lease(False, self.why_over)
        return self.why_over

    async def release(self) -> None:
        """Give the Lease back, so that the next daemon need not wait; whoever fails at it lets it run out."""
        if self.why_over:
            return
        self._over = f"the Lease {self.where} was given back"
        try:
            try:
                await self._write(self._emptied())
            except KubeError as error:
                if error.status != 409:
                    raise
                # A renewal was cut off, and arrived all the same.
                await self._look()
                if self._seen.holder == self.identity:
                    await self._write(self._emptied())
        except KubeError as error:
            logger.warning("giving back the Lease %s failed: %s", self.where, error.message)
        else:
            logger.info("gave back the Lease %s", self.where)

    def _emptied(self) -> Object:
        return {**self._seen.record, "holderIdentity": "", "leaseDurationSeconds": 1}

    async def _try_to_get(self) -> bool:
        began = self._clock()
        act = decide(self._seen, self.identity, began, self._terms)
        if act is Act.WAIT:
            return False
        wanted = record(self._seen, self.identity, self._terms, datetime.now(UTC))
        try:
            await self._write(wanted, create=act is Act.CREATE)
        except KubeError as error:
            if error.status == 409 or (error.status == 404 and act is not Act.CREATE):
                return False  # somebody was faster
            raise
        self._extend(began)
        self.transitions = int(wanted["leaseTransitions"])
        return self._clock() < self._until

    async def _renew(self) -> None:
        began = self._clock()
        try:
            await self._write(record(self._seen, self.identity, self._terms, datetime.now(UTC)))
        except KubeError as error:
            if error.status not in (404, 409):
                raise
            await self._look()
            if not self._seen.version:
                self._over = f"the Lease {self.where} was removed"
            elif self._seen.holder != self.identity:
                self._over = f"the Lease {self.where} is held by {self._seen.holder or 'nobody'}"
            # Else an earlier renewal of ours arrived whose answer did not, or somebody wrote a label: again, soon.
        else:
            self._extend(began)

    def _extend(self, began: float) -> None:
        # From before we asked: whoever sees this record later than that waits longer than we act.
        self._until = max(self._until, began + self._terms.renew)

    async def _look(self) -> None:
        lease: Object | None
        try:
            lease = await self._ask("GET", f"{self._path}/{self.name}")
        except KubeError as error:
            if error.status != 404:
                raise
            lease = None
        self._seen = observe(self._seen, lease, self._clock())

    async def _write(self, wanted: Object, *, create: bool = False) -> None:
        body: dict[str, Any] = {
            "apiVersion": GROUP,
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self._kube.namespace},
            "spec": wanted,
        }
        if create:
            written = await self._ask("POST", self._path, body)
        else:
            body["metadata"]["resourceVersion"] = self._seen.version
            written = await self._ask("PUT", f"{self._path}/{self.name}", body)
        self._seen = observe(self._seen, written, self._clock())

    async def _ask(self, method: str, path: str, body: Object | None = None) -> Object:
        # Several times within the time that a renewal may take: a connection that died in silence costs no tenure.
        seconds = self._terms.renew / 4
        if self._is_holder:
            seconds = min(seconds, max(self._until - self._clock(), _LEAST_SECONDS))
        return await self._kube.request(method, path, body, seconds=seconds)

    async def _pause(self) -> None:
        extra = secrets.randbelow(1000) / 1000 * _JITTER  # so that standbys do not ask in step
        await asyncio.sleep(self._terms.retry * (1 + extra))


def lost(why: str) -> StoreError:
    """What a daemon ends with whose tenure is over."""
    return StoreError(
        f"this daemon may act no more: {why}",
        code="replaced",
        hint="another daemon takes over; oj daemon status",
    )


def _untold(*_: object) -> None:
    """Stand in for the hook."""
