"""What each kind of principal may ask, about what, and what it is told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from oj_daemon import access
from oj_daemon.access import FULL_TOKEN, OF_JOBS, OWNER, VERBS, Principal
from oj_daemon.core.state import Agent, Decision, Job, Run, State, Token, Workspace
from oj_daemon.errors import Rejected
from oj_daemon.wire import requests
from oj_daemon.wire.names import (
    AgentId,
    AgentStatus,
    DecisionId,
    DecisionSource,
    JobId,
    JobStatus,
    StepStatus,
    TokenId,
    Verb,
    WorkspaceId,
    WorkspaceKind,
)

NOW = 1_000
HOUR = 3_600_000
REQUESTS: tuple[type[requests.Request], ...] = get_args(requests.AnyRequest)

# Each project has a job with a workspace, an agent and a decision, all with the project's letter in their ids; `a` has a
# second job (`c`) that the first one has started.
PROJECT = {"a": "shop", "b": "bank", "c": "shop"}


def id_of(noun: str, letter: str) -> str:
    return f"{noun}-{letter * 4}000000000000"


def world() -> State:
    state = State()
    for letter, project in PROJECT.items():
        job_id = JobId(id_of("job", letter))
        state.put_job(
            Job(
                id=job_id, kind="build", name=f"build-{project}", project=project, project_root="/p", runbook="r",
                invoke_dir="/p", status=JobStatus.RUNNING, key=f"key-{letter}",
                runs=(Run(run=1, step="code", visit=1, attempt=1, status=StepStatus.RUNNING),),
                started_by=JobId(id_of("job", "a") if letter == "c" else ""),
            )
        )  # fmt: skip
        workspace = Workspace(
            id=WorkspaceId(id_of("wks", letter)), job_id=job_id, kind=WorkspaceKind.FOLDER, path="/w", project=project
        )  # fmt: skip
        state.workspaces[workspace.id] = workspace
        agent = Agent(
            id=AgentId(id_of("agt", letter)), job_id=job_id, run=1, name="coder", status=AgentStatus.RUNNING
        )  # fmt: skip
        state.put_agent(agent)
        state.put_decision(
            Decision(
                id=DecisionId(id_of("dec", letter)), agent_id=agent.id, job_id=job_id, run=1,
                source=DecisionSource.IDLE, context="", options=(),
            )
        )  # fmt: skip
    state.tokens[TOKEN.id] = TOKEN
    return state


TOKEN = Token(id=TokenId("tok-1"), hash="", verbs=tuple(Verb), expires_at=NOW + HOUR)
STEP = Principal(
    "step code of job aaaa0000", project="shop", verbs=OF_JOBS, job_id=JobId(id_of("job", "a")), subject="1",
)  # fmt: skip
AGENT = msgspec.structs.replace(STEP, name="agent coder", subject=id_of("agt", "a"))


def person(*verbs: Verb, project: str = "") -> Principal:
    return Principal(
        "token ci", project=project, verbs=frozenset(verbs), token_id=TOKEN.id, expires_at=TOKEN.expires_at
    )  # fmt: skip


EVERYTHING = person(*Verb)
SHOP = person(*(verb for verb in Verb if verb is not Verb.DAEMON), project="shop")


def sample(kind: type[requests.Request], letter: str) -> Any:
    """A request of this kind about what belongs to the project with that letter."""
    noun = {"Job": "job", "Workspace": "wks", "Decision": "dec", "Agent": "agt", "Token": "tok"}
    prefix = next((ids for word, ids in noun.items() if kind.__name__.startswith(word)), "")
    values: dict[str, Any] = {
        "id": id_of(prefix, letter), "ids": (id_of(prefix, letter),), "message": "m", "protocol": 1, "version": "1",
        "project": PROJECT[letter], "project_root": "/p", "invoke_dir": "/p", "command": "build",
        "verbs": (Verb.DAEMON,), "expires_ms": 1,
    }  # fmt: skip
    wanted = {field.name for field in msgspec.structs.fields(kind) if field.required}
    wanted |= {"id"} & set(kind.__struct_fields__)
    return kind(**{name: values[name] for name in wanted})


def ask(who: Principal, request: Any, state: State | None = None) -> Any:
    return access.check(state or world(), who, request, NOW)


def code_of(who: Principal, request: Any) -> str:
    try:
        ask(who, request)
    except Rejected as error:
        return error.code if error.hint else f"{error} says not what to do"
    return "ok"


# Verbs


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_request_has_its_verb(kind: type[requests.Request]) -> None:
    assert kind in VERBS


def test_no_verb_is_for_what_is_no_request() -> None:
    assert set(VERBS) == set(REQUESTS)


@pytest.mark.parametrize("who", [OWNER, FULL_TOKEN], ids=["owner", "token"])
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_who_is_full_may_ask_everything_as_it_is(
    kind: type[requests.Request], who: Principal
) -> None:
    request = sample(kind, "b")
    assert ask(who, request) is request


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_a_verb_lets_in_what_is_its_own_and_nothing_else(kind: type[requests.Request]) -> None:
    request = sample(kind, "a")
    needed = VERBS[kind]
    for verb in Verb:
        expected = "ok" if needed in (None, verb) else "unauthorized"
        assert code_of(person(verb), request) == expected, verb


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_all_verbs_together_open_everything_in_every_project(kind: type[requests.Request]) -> None:
    for letter in PROJECT:
        assert code_of(EVERYTHING, sample(kind, letter)) == "ok"


BULK = {"JobResumeAll", "JobPrune", "WorkspacePrune", "AgentResumeAll", "AgentPrune"}
NAMED = {
    "JobCancel", "JobSuspend", "JobResume", "WorkspaceDrop", "AgentSend", "AgentKill", "AgentResume",
}  # fmt: skip
NEVER = {
    "DecisionResolve", "DecisionReopen", "AgentAttach", "DaemonStop", "DaemonLogs", "TokenCreate", "TokenList", "TokenRevoke",
}  # fmt: skip


@pytest.mark.parametrize("who", [STEP, AGENT], ids=["step", "agent"])
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_steps_and_agents_read_run_and_change_only_what_their_job_has_started(
    kind: type[requests.Request], who: Principal
) -> None:
    name = kind.__name__
    mine, started = sample(kind, "a"), sample(kind, "c")
    if name in NEVER | BULK:
        assert (code_of(who, mine), code_of(who, started)) == ("unauthorized", "unauthorized")
    elif name in NAMED:
        assert (code_of(who, mine), code_of(who, started)) == ("unauthorized", "ok")
    else:
        assert (code_of(who, mine), code_of(who, started)) == ("ok", "ok")


# Projects


WIDE = {"Hello", "Ping", "DaemonStatus"}
DAEMON = {"DaemonStop", "DaemonLogs", "TokenCreate", "TokenList", "TokenRevoke"}


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_within_one_project_everything_is_narrowed_to_it(kind: type[requests.Request]) -> None:
    request = sample(kind, "a")
    if kind.__name__ in DAEMON:
        assert code_of(person(*Verb, project="shop"), request) == "unauthorized"
        return
    narrowed = ask(SHOP, request)
    if "project" in kind.__struct_fields__ and kind.__name__ != "WorkspaceDrop":
        assert narrowed.project == "shop"
    for field in ("id", "ids"):
        if field in kind.__struct_fields__:
            assert getattr(narrowed, field) == getattr(request, field)


@pytest.mark.parametrize("who", [SHOP, STEP], ids=["person", "step"])
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_what_belongs_to_another_project_is_as_if_it_were_not_there(
    kind: type[requests.Request], who: Principal
) -> None:
    """With exactly the same words."""
    if not {"id", "ids"} & set(kind.__struct_fields__) or kind is requests.Watch:
        return

    def told(request: requests.Request) -> str:
        with pytest.raises(Rejected) as caught:
            ask(who, request)
        return f"{caught.value.code}: {caught.value.message}; {caught.value.hint}"

    foreign = sample(kind, "b")
    unknown = msgspec.json.encode(foreign).replace(b"bbbb", b"zzzz")
    assert told(foreign).replace("bbbb", "zzzz") == told(msgspec.json.decode(unknown, type=kind))


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_another_project_cannot_be_asked_for_by_name(kind: type[requests.Request]) -> None:
    if "project" not in kind.__struct_fields__ or kind.__name__ in DAEMON | {"WorkspaceDrop"}:
        return
    request = msgspec.structs.replace(sample(kind, "a"), project="bank")
    with pytest.raises(Rejected, match="reaches project shop only") as caught:
        ask(SHOP, request)
    assert caught.value.code == "unauthorized"


def test_dropping_workspaces_by_kind_stays_within_the_project() -> None:
    assert ask(SHOP, requests.WorkspaceDrop(all=True)).project == "shop"
    with pytest.raises(Rejected, match="reaches project shop only"):
        ask(SHOP, requests.WorkspaceDrop(all=True, project="bank"))
    with pytest.raises(Rejected, match="workspace drop is refused"):
        ask(STEP, requests.WorkspaceDrop(all=True))


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (requests.JobShow(id="build-bank"), None),
        (requests.JobShow(id="b"), None),
        (requests.JobShow(id="bbbb"), None),
        (requests.JobShow(id="aaaa"), "job-aaaa000000000000"),
        (requests.AgentShow(id="agt-b"), None),
        (requests.AgentShow(id="job-b"), None),
        (requests.AgentLogs(id="aaaa"), "agt-aaaa000000000000"),
        (requests.AgentLogs(id="job-a"), "job-aaaa000000000000"),
        (requests.WorkspaceShow(id="bbbb"), None),
        (requests.DecisionShow(id="bbbb"), None),
    ],
)
def test_parts_of_ids_and_names_find_only_what_is_in_the_project(
    request_: Any, found: str | None
) -> None:
    if found is None:
        assert code_of(SHOP, request_) == "not_found"
    else:
        assert ask(SHOP, request_).id == found


def test_a_part_that_is_only_ambiguous_across_projects_is_not_and_no_stranger_is_named() -> None:
    state = world()
    state.put_job(
        msgspec.structs.replace(
            state.jobs[JobId(id_of("job", "b"))], id=JobId("job-aaab000000000000"), key=""
        )
    )
    assert ask(SHOP, requests.JobCancel(ids=("aaa",)), state).ids == (id_of("job", "a"),)
    state.put_job(
        msgspec.structs.replace(
            state.jobs[JobId(id_of("job", "a"))], id=JobId("job-aaac000000000000"), key=""
        )
    )
    with pytest.raises(Rejected, match="any of 2 jobs") as caught:
        ask(SHOP, requests.JobShow(id="aaa"), state)
    assert "aaab" not in caught.value.message


def test_a_watch_hears_no_log_of_another_project() -> None:
    watch = requests.Watch(ids=(), logs={id_of("job", "a"): 0, id_of("job", "b"): 0, "x": 0})
    assert ask(SHOP, watch).logs == {id_of("job", "a"): 0}


def test_agents_of_a_job_of_another_project_are_not_listed() -> None:
    assert ask(SHOP, requests.AgentList(job="aaaa")).job == id_of("job", "a")
    assert code_of(SHOP, requests.AgentList(job=id_of("job", "b"))) == "not_found"


def test_a_step_of_a_job_without_a_project_reaches_no_other() -> None:
    nameless = msgspec.structs.replace(STEP, project="")
    assert ask(nameless, requests.JobList()).project == ""
    assert code_of(nameless, requests.JobShow(id=id_of("job", "a"))) == "not_found"


def test_a_command_runs_in_the_project_and_with_a_key_of_its_own() -> None:
    run: Callable[..., Any] = lambda **fields: msgspec.structs.replace(  # noqa: E731 - short
        sample(requests.RunCommand, "a"), **fields
    )
    assert ask(STEP, run(key="key-a")).key == "key-a"
    assert code_of(STEP, run(project="bank")) == "unauthorized"
    assert code_of(STEP, run(key="key-b")) == "unauthorized"


# What is told


def test_a_refusal_says_what_was_attempted_by_whom_and_what_it_may() -> None:
    with pytest.raises(Rejected) as caught:
        ask(STEP, requests.DecisionResolve(id="x", choices=((1,),)))
    assert caught.value.message == (
        "decision resolve is refused: step code of job aaaa0000 may only read, run, send, manage in project shop"
        " (the last two: jobs that its own job has started)"
    )
    assert caught.value.hint == "ask a person to do it"
    with pytest.raises(Rejected, match=r"token ci may only read$") as caught:
        ask(person(Verb.READ), requests.JobCancel(ids=("x",)))
    assert "oj token create" in caught.value.hint


def test_whoever_answers_with_a_token_is_called_as_the_token_is() -> None:
    answer = requests.DecisionResolve(id=id_of("dec", "a"), choices=((1,),), by="the boss")
    assert ask(SHOP, answer).by == "token ci"
    assert ask(EVERYTHING, answer).by == "token ci"
    assert ask(OWNER, answer).by == "the boss"


# Tokens that end, on connections that do not


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_a_token_that_ended_is_refused_on_a_connection_that_is_open(
    kind: type[requests.Request],
) -> None:
    state, request = world(), sample(kind, "a")
    for ended in (
        msgspec.structs.replace(TOKEN, revoked_at=NOW),
        msgspec.structs.replace(TOKEN, expires_at=NOW),
    ):
        state.tokens[TOKEN.id] = ended
        with pytest.raises(Rejected, match="may do nothing any more: its token"):
            ask(EVERYTHING, request, state)
    del state.tokens[TOKEN.id]
    with pytest.raises(Rejected, match="revoked"):
        ask(EVERYTHING, request, state)
    state.put_job(msgspec.structs.replace(state.jobs[STEP.job_id], runs=()))
    with pytest.raises(Rejected, match="what it was made for is over"):
        ask(STEP, request, state)


# Heirs


def test_no_token_makes_one_that_may_do_more_or_longer_than_itself() -> None:
    def make(*verbs: Verb, ms: int = HOUR) -> requests.TokenCreate:
        return requests.TokenCreate(verbs=verbs, expires_ms=ms)

    admin = person(Verb.READ, Verb.DAEMON)
    assert code_of(admin, make(Verb.READ)) == "ok"
    with pytest.raises(Rejected, match="token ci may not run, attach itself"):
        ask(admin, make(Verb.READ, Verb.RUN, Verb.ATTACH))
    with pytest.raises(Rejected, match="expires earlier"):
        ask(admin, make(Verb.READ, ms=HOUR + 1))
    assert code_of(OWNER, make(*Verb, ms=100 * HOUR)) == "ok"
