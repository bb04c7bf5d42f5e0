"""The works of a daemon as seen by whoever has a token: real steps, a real log, no listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from oj_daemon import access, settings, works
from oj_daemon.access import OWNER, Principal
from oj_daemon.errors import Rejected
from oj_daemon.main import Gate, Stop
from oj_daemon.readiness import Readiness
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import JobId, JobStatus, Noun, Verb
from oj_daemon.works import Works

T = TypeVar("T")
PATIENCE = 60.0
HOUR = 3_600_000

BOOK = """
command "build" { run = { job = "build" } }
job "build" {
  locals { made = "$(echo $OJ_AUTH_TOKEN > made; echo yes $OJ_AUTH_TOKEN)" }
  step "hold" {
    run = <<-SH
      echo "$OJ_AUTH_TOKEN" > token.tmp; mv token.tmp token; echo "I have $OJ_AUTH_TOKEN!"
      until test -e go; do sleep 0.05; done
    SH
  }
}
"""


class Daemon:
    """Works behind their gate, in a state folder and a project of their own."""

    def __init__(self, folder: Path, made: Works, config: settings.Settings) -> None:
        self.folder = folder
        self.works = made
        self.gate = Gate(config, made, Stop(Readiness()))

    async def ask(self, request: requests.AnyRequest, kind: type[T], who: Principal = OWNER) -> T:
        reply = await self.gate.handle(request, who)
        assert isinstance(reply, kind), reply
        return reply

    async def code(self, request: requests.AnyRequest, who: Principal) -> str:
        """How the request is refused; `ok` when it is not."""
        try:
            reply = await self.gate.handle(request, who)
        except Rejected as error:
            return error.code
        return reply.code if isinstance(reply, replies.Error) else "ok"

    async def run(self, project: str = "shop", who: Principal = OWNER) -> str:
        place = self.folder / project
        place.mkdir(exist_ok=True)
        request = requests.RunCommand(
            project=project, project_root=str(place), invoke_dir=str(place), command="build",
            sources=requests.Sources(files=(requests.SourceText(".oj/runbooks/main.hcl", BOOK),)),
        )  # fmt: skip
        return (await self.ask(request, replies.JobStarted, who)).job_id

    async def read(self, path: Path) -> str:
        """What a step wrote, as soon as it has."""
        async with asyncio.timeout(PATIENCE):
            while not path.exists() or not path.read_text():  # noqa: ASYNC110, ASYNC240 - nobody tells
                await asyncio.sleep(0.02)
        return path.read_text().strip()  # noqa: ASYNC240 - the same

    async def step(self, project: str = "shop") -> tuple[str, str, Principal]:
        """A job that runs: its id, the token of its step, and who that is."""
        job_id = await self.run(project)
        token = await self.read(self.folder / project / "token")
        found = self.gate.authenticate(token)
        assert found is not None
        return job_id, token, found

    async def until(self, job_id: str, status: JobStatus) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.works.engine.state.jobs[JobId(job_id)].status is not status:
                await self.works.engine.news()

    async def person(self, *verbs: Verb, **fields: Any) -> tuple[str, Principal]:
        """A new token, and who it is."""
        request = requests.TokenCreate(verbs=verbs, expires_ms=HOUR, **fields)
        made = await self.ask(request, replies.TokenCreated)
        found = self.gate.authenticate(made.token)
        assert found is not None
        return made.token, found


@contextlib.asynccontextmanager
async def running(folder: Path, *, kill: bool = True, token: str = "") -> AsyncIterator[Daemon]:
    """With `kill` nothing that was started is left at the end."""
    path = "/usr/local/bin:/usr/bin:/bin"
    environ = {"PATH": path, "OJ_STATE_DIR": str(folder / "s"), "OJ_AUTH_TOKEN": token}
    config = settings.load(environ)
    made = await works.start(config)
    try:
        yield Daemon(folder, made, config)
    finally:
        async with asyncio.timeout(PATIENCE):
            await made.drain(kill=kill)
        await made.close()


def with_daemon(
    folder: Path, scenario: Callable[[Daemon], Awaitable[None]], token: str = ""
) -> None:
    async def go() -> None:
        async with running(folder, token=token) as daemon:
            await scenario(daemon)

    asyncio.run(go())


def test_a_step_has_a_token_that_ends_with_it(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id, token, step = await daemon.step()
        assert token.startswith("ojs_")
        assert (step.job_id, step.subject, step.project) == (job_id, "1", "shop")
        shown = await daemon.ask(requests.JobShow(id=job_id), replies.JobDetail, step)
        assert shown.id == job_id
        (folder / "shop" / "go").touch()
        await daemon.until(job_id, JobStatus.DONE)
        assert daemon.gate.authenticate(token) is None
        assert daemon.gate.local_principal(token) is None
        assert await daemon.code(requests.JobShow(id=job_id), step) == "unauthorized"

    with_daemon(folder, scenario)


def test_the_commands_of_locals_have_one_too_and_it_is_another(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id, token, _ = await daemon.step()
        job = daemon.works.engine.state.jobs[JobId(job_id)]
        assert job.vars["local.made"] == "yes ojs_***"
        made = await daemon.read(folder / "shop" / "made")
        assert made.startswith("ojs_")
        assert f"_{job_id}_{access.LOCALS}_" in made
        assert made != token
        assert daemon.gate.authenticate(made) is None  # they are evaluated

    with_daemon(folder, scenario)


def test_a_step_sees_its_project_alone(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        mine, _, step = await daemon.step()
        other, _, _ = await daemon.step("bank")
        listed = await daemon.ask(requests.JobList(), replies.Jobs, step)
        assert ([job.id for job in listed.jobs], listed.total) == ([mine], 1)
        overview = await daemon.ask(requests.StatusOverview(), replies.Overview, step)
        assert [each.project for each in overview.projects] == ["shop"]
        known = await daemon.ask(requests.ProjectList(), replies.Projects, step)
        assert [each.name for each in known.projects] == ["shop"]
        watch = requests.Watch(
            nouns=tuple(Noun), ids=(mine, other, "job-none"), logs={other: 0, mine: 0}
        )
        news = await daemon.ask(watch, replies.Changes, step)
        assert [job.id for job in news.details] == [mine]
        assert [job.id for job in news.jobs] == [mine]
        assert news.overview is not None
        assert [each.project for each in news.overview.projects] == ["shop"]
        assert {line.job_id for line in news.facts} == {mine}
        assert news.missing == (other, "job-none")
        assert set(news.logs) == {mine}
        for request in (
            requests.JobShow(id=other),
            requests.JobLogs(id=other),
            requests.JobStory(id=other),
            requests.AgentList(job=other),
        ):
            assert await daemon.code(request, step) == "not_found"
        story = await daemon.ask(requests.JobStory(id=mine), replies.Story, step)
        assert story.complete
        assert {line.data["job_id"] for line in story.lines} == {mine}

    with_daemon(folder, scenario)


def test_a_step_ends_what_it_started_and_nothing_else(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        mine, _, step = await daemon.step()
        other = await daemon.run()
        started = await daemon.run(who=step)
        state = daemon.works.engine.state
        assert state.jobs[JobId(started)].started_by == mine
        assert state.jobs[JobId(other)].started_by == ""
        for job_id in (other, mine):
            assert await daemon.code(requests.JobCancel(ids=(job_id,)), step) == "unauthorized"
        assert await daemon.code(requests.JobCancel(ids=(started, other)), step) == "unauthorized"
        assert state.jobs[JobId(started)].status is not JobStatus.CANCELLED
        done = await daemon.ask(requests.JobCancel(ids=(started[4:],)), replies.JobsCancelled, step)
        assert done.cancelled == (started,)
        await daemon.until(started, JobStatus.CANCELLED)
        (folder / "shop" / "go").touch()

    with_daemon(folder, scenario)


def test_who_watches_hears_nothing_more_once_the_token_is_revoked(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id, _, _ = await daemon.step()
        _, who = await daemon.person(Verb.READ)
        first = await daemon.ask(requests.Watch(ids=(job_id,)), replies.Changes, who)
        watch = requests.Watch(ids=(job_id,), since=first.seq, wait_ms=60_000)
        watching = asyncio.create_task(daemon.code(watch, who))
        await asyncio.sleep(0)  # its token was good when it asked
        await daemon.ask(requests.TokenRevoke(id=who.token_id), replies.TokenRevoked)
        (folder / "shop" / "go").touch()
        async with asyncio.timeout(PATIENCE):
            assert await watching == "unauthorized"

    with_daemon(folder, scenario)


def test_what_started_a_job_and_tokens_are_known_after_a_restart(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder) as daemon:
            token, _ = await daemon.person(Verb.READ, project="shop", name="ci")
            revoked, who = await daemon.person(Verb.READ)
            await daemon.ask(requests.TokenRevoke(id=who.token_id), replies.TokenRevoked)
            assert daemon.gate.authenticate(revoked) is None
            mine, _, step = await daemon.step()
            started = await daemon.run(who=step)
        async with running(folder) as daemon:
            assert daemon.works.engine.state.jobs[JobId(started)].started_by == mine
            found = daemon.gate.authenticate(token)
            assert found is not None
            assert (found.name, found.project) == ("token ci", "shop")
            assert daemon.gate.authenticate(revoked) is None

    asyncio.run(scenario())


def test_the_token_of_a_step_is_good_for_the_daemon_that_takes_the_step_over(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder, kill=False) as daemon:
            _, token, _ = await daemon.step()
        async with running(folder) as daemon:
            assert daemon.gate.authenticate(token) is not None
        assert daemon.gate.authenticate(token) is None

    asyncio.run(scenario())


def test_how_the_daemon_is_is_told_in_full_only_to_who_may_stop_it(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        _, reader = await daemon.person(Verb.READ)
        _, admin = await daemon.person(Verb.DAEMON)
        full = await daemon.ask(requests.DaemonStatus(), replies.DaemonInfo, admin)
        assert (full.state_dir, bool(full.settings)) == (str(folder / "s"), True)
        brief = await daemon.ask(requests.DaemonStatus(), replies.DaemonInfo, reader)
        assert (brief.status, brief.version, brief.protocol) == (
            "running",
            full.version,
            full.protocol,
        )
        assert (brief.pid, brief.state_dir, brief.settings, brief.seq) == (0, "", (), 0)
        assert await daemon.code(requests.DaemonStop(), reader) == "unauthorized"
        assert await daemon.code(requests.DaemonStatus(), OWNER) == "ok"

    with_daemon(folder, scenario)


def test_a_secret_is_in_the_reply_and_nowhere_on_disk(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[str] = []

    async def scenario(daemon: Daemon) -> None:
        token, _ = await daemon.person(Verb.READ)
        job_id, step_token, _ = await daemon.step()
        (folder / "shop" / "go").touch()
        await daemon.until(job_id, JobStatus.DONE)
        log = await daemon.ask(requests.JobLogs(id=job_id), replies.Log)
        assert "I have ojs_***!\n" in log.content
        listed = await daemon.ask(requests.TokenList(), replies.Tokens)
        assert token.rpartition("_")[2] not in repr(listed)
        found.extend([token.rpartition("_")[2], step_token.rpartition("_")[2], "the-full-token"])
        await daemon.works.engine.snapshot()

    with caplog.at_level("DEBUG"):
        with_daemon(folder, scenario, token="the-full-token")
    assert len(found) == 3
    for path in (folder / "s").rglob("*"):
        for secret in found:
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), path
    for secret in found:
        assert secret not in caplog.text


def test_a_new_token_shows_in_no_repr(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        request = requests.TokenCreate(verbs=(Verb.READ,), expires_ms=HOUR)
        made = await daemon.ask(request, replies.TokenCreated)
        assert made.token
        assert made.token not in repr(made)
        assert made.token not in str(made)

    with_daemon(folder, scenario)


def test_the_tokens_of_steps_are_in_no_argument_of_a_process(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        _, token, _ = await daemon.step()
        secret = token.rpartition("_")[2]
        words = [
            word
            for process in psutil.process_iter(["cmdline"])
            for word in process.info["cmdline"] or ()
        ]
        assert any(word.endswith("step.sh") for word in words)
        assert not any(secret in word for word in words)

    with_daemon(folder, scenario)


def test_what_a_runbook_says_about_the_token_of_another_daemon_wins(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        book = BOOK.replace(
            'step "hold" {', 'step "hold" {\n    env = { OJ_AUTH_TOKEN = "theirs" }'
        )
        request = requests.RunCommand(
            project="shop", project_root=str(folder), invoke_dir=str(folder), command="build",
            sources=requests.Sources(files=(requests.SourceText(".oj/runbooks/main.hcl", book),)),
        )  # fmt: skip
        await daemon.ask(request, replies.JobStarted)
        assert await daemon.read(folder / "token") == "theirs"
        assert daemon.gate.local_principal("theirs") is OWNER

    with_daemon(folder, scenario)


def test_the_full_token_is_the_daemons_own(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        assert daemon.gate.authenticate("full") is access.FULL_TOKEN
        assert daemon.gate.authenticate("ful") is None
        _, token, step = await daemon.step()
        assert token != "full"
        assert not step.is_full

    with_daemon(folder, scenario, token="full")
