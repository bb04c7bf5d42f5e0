"""Places as pods: made, found again, reached and removed; the whole of what the executor asks of a cluster.

Rule: whatever is made is named after its owner and marked with how often that was tried (`spawn`), so a daemon that died in the
middle finds its own half and goes on with it. The token of a place follows from those two and the key of the state folder: it
is in no log. What became of a pod is told by the cache alone, which is never asked to be fresher than it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from oj_daemon.adapters.base import PlaceReady
from oj_daemon.adapters.kubernetes import pod as pods
from oj_daemon.adapters.kubernetes.api import Kube, KubeError
from oj_daemon.adapters.kubernetes.bucket import Bucket
from oj_daemon.adapters.kubernetes.diagnose import diagnose_pod
from oj_daemon.adapters.kubernetes.diagnosis import Diagnosis, Kind
from oj_daemon.adapters.kubernetes.plan import SESSION, plan_of
from oj_daemon.adapters.kubernetes.refusals import diagnose_error
from oj_daemon.adapters.kubernetes.watch import NO_ANSWER, PodCache, Seen
from oj_daemon.adapters.place import PlaceClient
from oj_daemon.adapters.shells import UNREACHABLE, while_there
from oj_daemon.core.effects import CreateWorkspace, DeleteWorkspace
from oj_daemon.errors import AdapterError, Rejected
from oj_daemon.settings import Cluster, Secret
from oj_daemon.shell import RunState
from oj_daemon.wire.names import WorkspaceKind

logger = logging.getLogger(__name__)

NAME: Final = "kubernetes"
MOST_LOSSES: Final = 3
"""How often a place that the cluster took away before it was ready is made again (kubernetes.md 3)."""
QUOTA_FIRST: Final = 30.0
QUOTA_LONGEST: Final = 300.0
"""Seconds between two tries where a quota is full (kubernetes.md 3); sooner when a place of ours has gone."""
RETRY_FIRST: Final = 0.5
RETRY_LONGEST: Final = 30.0
"""Seconds between two tries where the API server cannot be asked."""
WRITES_PER_SECOND: Final = 20.0
WRITES_AT_ONCE: Final = 30
"""What is asked of the API server to make and remove places (kubernetes.md 4)."""
SWEEP_SECONDS: Final = 600.0
GRACE_SECONDS: Final = 40
LOG_LINES: Final = 20
LOG_BYTES: Final = 65536
LOG_SHOWN: Final = 2000
"""Characters of a pod's last words: they become part of a fact."""
NO_ROOM: Final = "disk"
"""Code of what could not be written here."""
SCRIPT_SECONDS: Final = 120.0
"""How long a command of ours in a place may take."""
SHORT: Final = 12
"""Digits of a commit that people read."""


class Issuer(NamedTuple):
    """The daemon's own CA."""

    ca: str
    """Its certificate, PEM."""
    issue: Callable[[str], tuple[str, str]]
    """Certificate chain and key, PEM, for a name."""
    context: ssl.SSLContext
    """For connections of the daemon to places."""


class KubernetesPlaces:
    """The places of one daemon in one namespace; `run` has to run as long as it is used."""

    name = NAME

    def __init__(  # noqa: PLR0913 - what a runtime is made of
        self,
        kube: Kube,
        wanted: Cluster,
        *,
        instance: str,
        key: Secret[bytes],
        issuer: Issuer,
        environ: Mapping[str, str],
        checkpoints: Path,
        template: Mapping[str, object] | None = None,
    ) -> None:
        self.environ = environ
        self.checkpoint_seconds = wanted.checkpoint_ms / 1000
        self.cache = PodCache(kube, instance)
        self.on_loss: Callable[[str], None] = _ignore
        """Told of each place that the cluster took away: the kind of the diagnosis."""
        self.known: Callable[[], Collection[str]] = tuple
        """The owners that have a place now; pods of others are swept away."""
        self._kube = kube
        self._wanted = wanted
        self._instance = instance
        self._key = key
        self._issuer = issuer
        self._checkpoints = checkpoints
        self._template = template
        self._clients: dict[str, PlaceClient] = {}
        """By UID of the pod."""
        self._status: dict[str, str] = {}
        self.on_status: Callable[[str, str], None] = _ignore
        """Told what the place of an owner waits for, whenever that changes; empty: for nothing any more."""
        self._slots = asyncio.Condition()
        self._room = asyncio.Condition()
        """What waits for a quota; one of them tries again when a pod of ours has gone."""
        self._holding: set[str] = set()
        """Names of pods that are, or are about to be."""
        self._writes = Bucket(WRITES_PER_SECOND, WRITES_AT_ONCE)
        self._making: set[str] = set()
        self._saving: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    # -- for as long as the daemon lives ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the cache, and sweep now and then, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.cache.run())
            group.create_task(self._sweep_often())

    async def close(self) -> None:
        """Let go of the connections; the places live on."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        await self._kube.close()

    async def _sweep_often(self) -> None:
        await self._listed()
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> list[str]:
        """Remove pods of this instance that no owner claims; their names."""
        claimed = {_name(owner) for owner in self.known()} | self._making
        strays = [
            (name, seen)
            for name, seen in self.cache.all().items()
            if name not in claimed and not seen.pod["metadata"].get("deletionTimestamp")
        ]
        async with asyncio.TaskGroup() as group:
            for name, seen in strays:
                logger.warning("removing the pod %s: nobody claims it", name)
                group.create_task(self._clear(name, seen.uid))
        return [name for name, _ in strays]

    async def _listed(self) -> None:
        while not self.cache.is_listed:
            await self.cache.change(1.0)

    # -- making ----------------------------------------------------------------------------------------------------

    async def ready(self, wanted: CreateWorkspace) -> PlaceReady:
        """Make the place, or find it where its route says; one that is gone is made again. Raises AdapterError."""
        owner = wanted.agent_id or wanted.workspace_id
        name = _name(owner)
        notes: list[str] = []
        self._making.add(name)
        try:
            await self._listed()
            spawn, route = int(wanted.route.get("spawn", "0")), dict(wanted.route)
            if route:
                self._holding.add(name)
                seen = await self._await_ready(owner, name, route["uid"])
                if isinstance(seen, Seen):
                    return PlaceReady(route, base=route.get("base", ""))
                if seen.is_infra:
                    self.on_loss(str(seen.kind))
                notes.append(f"{await self._last_words(name, seen)}; it is made again")
                await self._clear(name, route["uid"])
            return await self._make(wanted, owner, spawn + 1, notes)
        except Rejected as error:
            raise AdapterError(error.message, code="place", hint=error.hint) from error
        finally:
            self._making.discard(name)
            self._waits(owner, "")
            self._status.pop(owner, None)

    async def _make(
        self, wanted: CreateWorkspace, owner: str, spawn: int, notes: list[str]
    ) -> PlaceReady:
        name = _name(owner)
        for losses in range(MOST_LOSSES + 1):
            plan = plan_of(
                wanted,
                name,
                self._kube.namespace,
                self._instance,
                str(spawn),
                self._wanted,
                self._template,
            )
            built = pods.build(plan)
            if not losses:
                notes += built.left_out
            try:
                made = await self._create(owner, plan, built.pod)
            except AdapterError:
                await self._clear(name, "")  # its Secret, and its turn
                raise
            uid = made["metadata"]["uid"]
            # One that a daemon before us made may have been its second or third.
            spawn = int(made["metadata"]["annotations"][pods.SPAWN])
            outcome = await self._try_out(wanted, owner, name, uid, spawn)
            if isinstance(outcome, PlaceReady):
                return outcome._replace(notes=(*notes, *outcome.notes))
            if outcome.is_infra:
                self.on_loss(str(outcome.kind))
            words = await self._last_words(name, outcome)
            await self._clear(name, uid)
            # Nothing of the job has run in it yet, whatever its sidecar did.
            if not outcome.is_infra or losses == MOST_LOSSES:
                raise AdapterError(words, code="place", hint=outcome.advice)
            notes.append(f"{outcome.message}; it is made again")
            spawn += 1
        raise AssertionError("unreachable")

    async def _try_out(
        self, wanted: CreateWorkspace, owner: str, name: str, uid: str, spawn: int
    ) -> PlaceReady | Diagnosis:
        """The place with everything in it, or why nothing comes of this pod. Raises AdapterError."""
        outcome = await self._await_ready(owner, name, uid)
        if isinstance(outcome, Diagnosis):
            return outcome
        route = {"pod": name, "uid": uid, "spawn": str(spawn)}
        pause = RETRY_FIRST
        while True:
            try:
                base, notes = await while_there(self, route, self._furnish(wanted, route))
            except AdapterError as error:
                if (fate := self.cache.fate(name, uid)) is not None:
                    return fate
                if error.code not in UNREACHABLE:
                    await self._clear(name, uid)
                    raise
                logger.info("%s: %s; trying again", owner, error.message)
            else:
                return PlaceReady({**route, "base": base} if base else route, base, notes)
            await self.gone(route, pause)
            pause = min(2 * pause, RETRY_LONGEST)

    async def _create(self, owner: str, plan: pods.PodPlan, pod: dict[str, Any]) -> dict[str, Any]:
        """Secret, then pod; or the pod that is there. Waits for a slot, for room in a quota, for the server."""
        await self._slot(owner, plan.name)
        seen = self.cache.get(plan.name)
        found = await self._ours(plan, seen.pod) if seen is not None else None
        while found is None:
            token = self._token(plan.name, plan.spawn)
            certificate, key = self._issuer.issue(plan.name)
            secret = pods.build_secret(plan, token, Secret(key), certificate, self._issuer.ca)
            if await self._post(owner, "secrets", secret) is None:
                # Left by a daemon that did not come as far as its pod; what it holds is not known any more.
                with contextlib.suppress(_NotFound):
                    await self._erase("secrets", plan.name, {})
                continue
            # What has our name already was made by a request of ours whose answer did not come, most probably.
            found = await self._post(owner, "pods", pod) or await self._look(plan)
            if found is not None:
                with contextlib.suppress(KubeError):  # whoever removes the place removes it as well
                    await self._kube.request(
                        "PATCH", self._path("secrets", plan.name), pods.owner_of(found)
                    )
        self.cache.put(found)
        return found

    async def _look(self, plan: pods.PodPlan) -> dict[str, Any] | None:
        """The pod that has our name, if it is ours; None when there is none after all. Raises AdapterError."""
        pause = RETRY_FIRST
        while True:
            try:
                found = await self._kube.request("GET", self._path("pods", plan.name))
                return await self._ours(plan, found)
            except KubeError as error:
                if error.status == 404:
                    return None
                if _diagnosis(error).is_final:
                    raise
                logger.info("look for the pod %s: %s", plan.name, error.message)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
                pause = min(2 * pause, RETRY_LONGEST)

    async def _ours(self, plan: pods.PodPlan, found: Mapping[str, Any]) -> dict[str, Any] | None:
        """The pod, if we may go on with it; None once one that is on its way out is gone. Raises AdapterError."""
        metadata = found["metadata"]
        if metadata.get("deletionTimestamp"):
            await self._clear(plan.name, metadata["uid"])  # and its node may be lost
            self._holding.add(plan.name)
            return None
        spawn = str((metadata.get("annotations") or {}).get(pods.SPAWN, ""))
        why = pods.stranger(msgspec.structs.replace(plan, spawn=spawn), found)
        if why or not spawn.isdecimal():
            raise AdapterError(
                f"a pod named {plan.name} is there already: {why or 'nobody marked it'}",
                code="place",
                hint="if no daemon of yours has made it, delete it",
            )
        if int(spawn) < int(plan.spawn):
            logger.warning("removing the pod %s: it is a copy of one that is over", plan.name)
            await self._clear(plan.name, metadata["uid"])
            self._holding.add(plan.name)
            return None
        return dict(found)

    async def _slot(self, owner: str, name: str) -> None:
        """Wait until there may be one place more; in the order of asking."""
        most = self._wanted.max_places

        def is_room() -> bool:
            return len({*self._holding, *self.cache.all()} - {name}) < most

        async with self._slots:
            if not is_room():
                self._waits(owner, f"{most} places are the most at once (OJ_K8S_MAX_PLACES)")
            await self._slots.wait_for(is_room)
            self._holding.add(name)

    async def _free(self, name: str) -> None:
        async with self._slots:
            self._holding.discard(name)
            self._slots.notify()

        async with self._room:
            self._room.notify()

    async def _quota_may_have_room(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._room:
                await self._room.wait()

    async def _post(self, owner: str, plural: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What was made; None when something has that name already. Waits for room and for the server. Raises AdapterError."""
        quota, pause = QUOTA_FIRST, RETRY_FIRST
        while True:
            await self._writes.take()
            try:
                return await self._kube.request("POST", self._path(plural), body)
            except KubeError as error:
                said = _diagnosis(error)
                if said.kind is Kind.ALREADY_EXISTS:
                    return None
                if said.is_final:
                    raise AdapterError(said.message, code="place", hint=said.advice) from error
                self._waits(owner, _advised(said))
                if said.kind is Kind.QUOTA:
                    await self._quota_may_have_room(quota)
                    quota = min(2 * quota, QUOTA_LONGEST)
                else:
                    await asyncio.sleep(max(pause, (said.retry_after_ms or 0) / 1000))
                    pause = min(2 * pause, RETRY_LONGEST)

    async def _await_ready(self, owner: str, name: str, uid: str) -> Seen | Diagnosis:
        """The pod once it can be worked in, or why it cannot."""
        began = time.monotonic()
        limit = self._wanted.start_timeout_ms / 1000
        while True:
            fate = self.cache.fate(name, uid)
            if fate is not None:
                return fate
            seen = self.cache.get(name)
            if seen is not None and seen.uid == uid:
                if seen.is_ready:
                    return seen
                said = seen.diagnosis
                words = _advised(said)
                if not self.cache.is_fresh:
                    words = f"{NO_ANSWER}; before, {words}"
                self._waits(owner, words)
                if said.is_hopeless:
                    return said
                if said.kind is Kind.GATED or not self.cache.is_fresh:
                    began = time.monotonic()
                elif time.monotonic() - began > limit:
                    return _too_late(await self._with_events(seen), limit)
            await self.cache.change(5.0, name)

    async def _furnish(
        self, wanted: CreateWorkspace, route: Mapping[str, str]
    ) -> tuple[str, tuple[str, ...]]:
        """Begin the branch, and bring back what was saved of an earlier place; commit that it starts from, and notes."""
        if not wanted.repo:
            return "", ()
        client = await self.client(route)
        saved = self._saved(wanted)
        notes: list[str] = []
        at = ""
        if saved.exists():
            data = await asyncio.to_thread(saved.read_bytes)
            at = str(await client.put_file("checkpoint.bundle", data))
        script = _FURNISH.format(path=wanted.path)
        env = {
            "OJ_BRANCH": wanted.branch,
            "OJ_REF": wanted.ref,
            "OJ_HEAD": wanted.head,
            "OJ_SAVED": at,
        }
        printed = await self._script(client, f"oj/furnish-{route['spawn']}", script, env)
        base, *said = printed.splitlines()[-1].split() if printed else ("",)
        if "restored" in said:
            notes.append("what was not pushed in its former place was brought back")
        if "lost" in said:
            notes.append(f"what was saved of its former place does not fit, and stays in {saved}")
        if "unpushed" in said:
            notes.append(
                f"your commit {wanted.head[:SHORT]} is not pushed: the job works on {base[:SHORT]}"
            )
        return base, tuple(notes)

    async def _script(
        self, client: PlaceClient, run_id: str, script: str, env: Mapping[str, str]
    ) -> str:
        """The output of a command of ours in a place. Raises AdapterError."""
        await client.start(run_id, script, env=env, cwd="/")
        kept = b""
        try:
            async with asyncio.timeout(SCRIPT_SECONDS):
                while True:
                    piece = await client.output(run_id, len(kept))
                    kept += piece.data
                    if piece.is_over:
                        break
                view = await client.view(run_id)
        except TimeoutError as error:
            raise AdapterError(
                f"prepare the place: it took longer than {SCRIPT_SECONDS:g} s", code="place"
            ) from error
        text = kept.decode("utf-8", "replace").strip()
        if view.state is not RunState.EXITED or view.status != 0:
            raise AdapterError(f"prepare the place: {text[-300:] or view.detail}", code="place")
        await client.forget(run_id)
        return text

    # -- reaching --------------------------------------------------------------------------------------------------

    async def client(self, route: Mapping[str, str]) -> PlaceClient:
        """The way to a place that is there. Raises AdapterError: gone, unreachable."""
        name, uid = route["pod"], route["uid"]
        await self._listed()
        gone = self.why_gone(route)
        if gone:
            raise AdapterError(gone, code="gone")
        seen = self.cache.get(name)
        if seen is None or not seen.address:
            raise AdapterError(
                f"the pod {name} has no address that is known here", code="unreachable"
            )
        host = f"[{seen.address}]" if ":" in seen.address else seen.address
        url = f"https://{host}:{pods.PORT}"
        client = self._clients.get(uid)
        if client is None:
            token = self._token(name, route["spawn"])
            client = self._clients[uid] = PlaceClient(url, token, self._issuer.context, name)
        else:
            client.move(url)
        return client

    def why_gone(self, route: Mapping[str, str]) -> str:
        """What became of a place, in words; empty while it may still be there."""
        fate = self.cache.fate(route["pod"], route["uid"])
        if fate is None:
            return ""
        return f"{fate.message} ({fate.advice})" if fate.advice else fate.message

    async def gone(self, route: Mapping[str, str], seconds: float | None = None) -> str:
        """The same as soon as there is something to say; or empty, after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (gone := self.why_gone(route)):
                    name = route["pod"]
                    await self.cache.change(self.cache.overdue_in(name), name)
                return gone
        return ""

    def _waits(self, owner: str, text: str) -> None:
        if self._status.get(owner, "") != text:
            self._status[owner] = text
            self.on_status(owner, text)

    def _token(self, name: str, spawn: str) -> Secret[str]:
        text = f"{self._instance}/{name}/{spawn}".encode()
        return Secret(hmac.new(self._key.reveal(), text, hashlib.sha256).hexdigest())

    # -- removing --------------------------------------------------------------------------------------------------

    async def remove(self, order: DeleteWorkspace) -> str:
        """Remove a place; returns what was kept of it and where, in words. Raises AdapterError."""
        owner = order.agent_id or order.workspace_id
        name = _name(owner)
        await self._listed()
        note = ""
        if order.route and not self.why_gone(order.route) and not order.force:
            try:
                path = await while_there(self, order.route, self._save(order, order.route))
            except AdapterError as error:
                if error.code == NO_ROOM:
                    raise  # it stays where it is
                note = f"what was not pushed could not be saved: {error.message}"
                logger.warning("%s: %s", owner, note)
            else:
                if path is not None:
                    note = f"what was not pushed is kept in {path}: git fetch {path} refs/oj/checkpoint"
        if order.force:
            self._saved(order).unlink(missing_ok=True)
        await self._clear(name, "")  # a copy that somebody made of it as well
        client = self._clients.pop(order.route.get("uid", ""), None)  # of a pod that went by itself
        if client is not None:
            await client.close()
        return note

    async def checkpoint(self, place: CreateWorkspace, route: Mapping[str, str]) -> None:
        """Save what in a place is nowhere else. Raises AdapterError."""
        await self._save(place, route)

    def _saved(self, order: CreateWorkspace | DeleteWorkspace) -> Path:
        owner = order.agent_id or order.workspace_id
        return self._checkpoints / order.job_id / f"{owner}.bundle"

    async def _save(
        self, order: CreateWorkspace | DeleteWorkspace, route: Mapping[str, str]
    ) -> Path | None:
        """Keep commits and changes that are nowhere else; where, or None when there are none. Raises AdapterError."""
        if order.kind != WorkspaceKind.CLONE:
            return None
        path = self._saved(order)
        lock = self._saving.setdefault(path, asyncio.Lock())
        async with lock:
            client = await self.client(route)
            script = _SAVE.format(path=order.path, session=SESSION)
            printed = await self._script(
                client, f"oj/save-{int(time.monotonic() * 1000)}", script, {}
            )
            if printed.endswith("saved"):
                data = await client.get_file("checkpoint.bundle")
                try:
                    await asyncio.to_thread(_write, path, data)
                except OSError as error:
                    raise AdapterError(
                        f"save what was not pushed in {path}: {error.strerror or error}",
                        code=NO_ROOM,
                        hint="free some space there",
                    ) from error
                return path
            if printed.endswith("clean"):
                path.unlink(missing_ok=True)
        return None

    async def _clear(self, name: str, uid: str) -> None:
        """Remove the pod (any of that name when no UID is given) and its Secret, and return when both are gone."""
        pause, uids = RETRY_FIRST, {uid}
        while True:
            try:
                seen = self.cache.get(name)
                if seen is None or not uid or seen.uid == uid:
                    if seen is not None:
                        uids.add(seen.uid)
                        await self._delete(name, seen.uid)
                    await self._erase_secret(name)
                break
            except KubeError as error:
                logger.warning("remove the pod %s: %s", name, error.message)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
                pause = min(2 * pause, RETRY_LONGEST)
        while True:
            seen = self.cache.get(name)
            if seen is None or (uid and seen.uid != uid):
                break
            if seen.is_overdue:
                logger.warning("removing the pod %s by force: its node does not end it", name)
                with contextlib.suppress(KubeError):  # again in a moment
                    await self._delete(name, seen.uid, {"gracePeriodSeconds": 0})
            await self.cache.change(2.0, name)
        for each in uids:
            client = self._clients.pop(each, None)
            if client is not None:
                await client.close()
        await self._free(name)

    async def _delete(self, name: str, uid: str, more: Mapping[str, object] | None = None) -> None:
        with contextlib.suppress(_NotFound):
            await self._erase("pods", name, {"preconditions": {"uid": uid}, **(more or {})})

    async def _erase_secret(self, name: str) -> None:
        try:
            await self._erase("secrets", name, {})
        except _NotFound:
            pass
        except KubeError as error:
            if error.status != 403:
                raise
            # Who may not do that will not be allowed to in a moment; often there is none, because making it was forbidden.
            logger.warning("the Secret %s stays, if there is one: %s", name, error.message)

    async def _erase(self, plural: str, name: str, options: Mapping[str, Any]) -> None:
        await self._writes.take()
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        try:
            await self._kube.request("DELETE", self._path(plural, name), body)
        except KubeError as error:
            if error.status in (404, 409):  # gone, or another one has that name by now
                raise _NotFound from error
            raise

    async def _with_events(self, seen: Seen) -> Diagnosis:
        """What is the matter with a pod, its events included: a volume that cannot be mounted is told nowhere else."""
        query = {"fieldSelector": f"involvedObject.uid={seen.uid}"}
        try:
            listed = await self._kube.request("GET", self._path("events"), query=query)
        except KubeError:
            return seen.diagnosis
        return diagnose_pod(seen.pod, events=listed.get("items") or (), before=seen.diagnosis)

    async def _last_words(self, name: str, said: Diagnosis) -> str:
        """The diagnosis with the last lines of the container's log, read while the pod is there."""
        words = said.message
        if not said.container or said.is_infra:
            return words
        query = {
            "container": said.container,
            "tailLines": str(LOG_LINES),
            "limitBytes": str(LOG_BYTES),
        }
        try:
            log = await self._kube.text(self._path("pods", name, "log"), query)
        except KubeError:
            return words
        lines = log.strip()[-LOG_SHOWN:]
        return f"{words}; it said last: {lines}" if lines else words

    def _path(self, plural: str, name: str = "", sub: str = "") -> str:
        parts = [f"/api/v1/namespaces/{self._kube.namespace}/{plural}", name, sub]
        return "/".join(part for part in parts if part)


def _ignore(*_: object) -> None:
    """Stand in for nobody who wants to know."""


class _NotFound(Exception):
    """There is nothing to be removed."""


def _name(owner: str) -> str:
    return f"oj-{owner}"


def _advised(said: Diagnosis) -> str:
    return f"{said.message}; {said.advice}" if said.advice else said.message


def _diagnosis(error: KubeError) -> Diagnosis:
    after = "" if error.retry_after is None else str(error.retry_after)
    return diagnose_error(error.status, error.body or error.message, retry_after=after)


def _too_late(said: Diagnosis, seconds: float) -> Diagnosis:
    return msgspec.structs.replace(
        said,
        message=f"the place did not come up within {seconds:g} s: {said.message}",
        is_hopeless=True,
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.tmp")
    with fresh.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    for each in (
        path.parent,
        path.parent.parent,
    ):  # the pod may go next: then this is the only copy
        folder = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_FURNISH: Final = """\
set -eu
cd {path}
exec 2>&1
base=$(git rev-parse HEAD)
said=
if test -n "$OJ_BRANCH" && ! git rev-parse -q --verify "refs/heads/$OJ_BRANCH" >/dev/null; then
  if git rev-parse -q --verify "refs/remotes/origin/$OJ_BRANCH" >/dev/null; then
    git checkout -q -b "$OJ_BRANCH" --track "origin/$OJ_BRANCH"
  else
    start=HEAD
    if test -n "$OJ_REF"; then
      start=$(git rev-parse -q --verify "$OJ_REF^{{commit}}" ||
        git rev-parse -q --verify "refs/remotes/origin/$OJ_REF^{{commit}}") || {{
          echo "there is no commit '$OJ_REF': what source.ref names has to be pushed"; exit 1; }}
    fi
    git checkout -q -b "$OJ_BRANCH" --no-track "$start"
  fi
  base=$(git rev-parse HEAD)
fi
if test -n "$OJ_SAVED"; then
  if git fetch -q "$OJ_SAVED" '+refs/*:refs/oj/saved/*'; then
    git for-each-ref --format='%(refname:lstrip=4) %(objectname)' refs/oj/saved/heads |
      while read -r name at; do git update-ref "refs/heads/$name" "$at"; done
    was=$(git log -1 --format=%s refs/oj/saved/oj/checkpoint)
    was=${{was#checkpoint of }}
    if test "$was" = HEAD; then git checkout -q --detach; else git symbolic-ref HEAD "refs/heads/$was"; fi
    git reset -q --hard refs/oj/saved/oj/checkpoint
    git reset -q HEAD^
    said="$said restored"
  else
    said="$said lost"
  fi
fi
if test -n "$OJ_HEAD" && ! git cat-file -e "$OJ_HEAD^{{commit}}" 2>/dev/null; then said="$said unpushed"; fi
echo "$base$said"
"""
"""Begins the job's branch in a fresh clone, and brings back what was saved; prints the commit that the branch begins at, and
what there is to be told.
"""
_SAVE: Final = """\
set -eu
cd {path} 2>/dev/null || exit 0
git rev-parse -q --verify HEAD >/dev/null 2>&1 || exit 0
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
cp "$(git rev-parse --git-path index)" "$own/index" 2>/dev/null || :
export GIT_INDEX_FILE="$own/index"
git add -A >/dev/null 2>&1 || :
tree=$(git write-tree)
loose=
if test "$tree" != "$(git rev-parse 'HEAD^{{tree}}')"; then
  loose=changes
else
  for at in $(git rev-parse HEAD) $(git for-each-ref --format='%(objectname)' refs/heads); do
    test -n "$(git rev-list -1 "$at" --not --remotes 2>/dev/null)" || continue
    there=${{there-$(GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote -q origin 2>/dev/null || :)}}
    case "$there" in *"$at"*) ;; *) loose=commits ;; esac
  done
fi
if test -z "$loose"; then echo clean; exit 0; fi
branch=$(git symbolic-ref -q --short HEAD || echo HEAD)
at=$(git -c user.name=oj -c user.email=oj@localhost commit-tree "$tree" -p HEAD -m "checkpoint of $branch")
git update-ref refs/oj/checkpoint "$at"
mkdir -p {session}
git bundle create -q {session}/checkpoint.new refs/oj/checkpoint --branches --not --remotes
mv {session}/checkpoint.new {session}/checkpoint.bundle
echo saved
"""
"""Makes a bundle of everything that the remote does not have, changes that are in no commit included; touches nothing of it."""
