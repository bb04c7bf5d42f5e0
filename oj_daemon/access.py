"""Who asks, and what they may.

Rule: pure. A connection has one principal: the owner of the state folder on the unix socket, or whom its token names. The full
token stays with people; whatever runs on behalf of a job has one that reaches its own project and cannot end other people's
work (system.md D13). Every request is checked, so what is revoked or over is refused on connections that are open, too. What
lies outside of a principal's project does not exist for it: the answer is the same as about what was never there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar, assert_never

import msgspec
from msgspec import structs

from oj_daemon.core.state import ACTIVE, Job, State
from oj_daemon.errors import Rejected
from oj_daemon.wire import requests
from oj_daemon.wire.names import AgentId, JobId, JobStatus, TokenId, Verb, short_id
from oj_daemon.wire.requests import AnyRequest

LOCALS: Final = "locals"
"""Stands for the evaluation of a job's locals and ref, where others have a run or an agent."""


class Principal(msgspec.Struct, frozen=True):
    """Whoever is at the other end of a connection."""

    name: str
    """For logs, and for decisions: who made them."""
    is_full: bool = False
    """May do everything; the fields below do not matter then."""
    project: str = ""
    """The only project that it reaches; empty: every one, but for a step or agent."""
    verbs: frozenset[Verb] = frozenset()
    job_id: JobId = JobId("")
    """The job on whose behalf it acts, for tokens of steps and agents."""
    subject: str = ""
    """What of that job: the number of a run, the id of an agent, or LOCALS."""
    token_id: TokenId = TokenId("")
    """The record of the token, for those of people."""
    expires_at: int = 0

    @property
    def reach(self) -> str | None:
        """The one project that it sees; None for every one."""
        return self.project if self.job_id or self.project else None


OWNER: Final = Principal("owner", is_full=True)
"""Who connects to the unix socket as the user that the daemon runs as."""
FULL_TOKEN: Final = Principal("token", is_full=True)
"""Who knows the daemon's own token."""

OF_JOBS: Final = frozenset({Verb.READ, Verb.RUN, Verb.SEND, Verb.MANAGE})
"""What steps and agents may do; the last two only with jobs that their own job has started. They answer no decisions: an agent
must not approve what it is asked about."""

VERBS: Final[dict[type, Verb | None]] = {
    **dict.fromkeys((requests.Hello, requests.Ping, requests.DaemonStatus), None),
    **dict.fromkeys(
        (
            requests.StatusOverview,
            requests.JobList,
            requests.JobShow,
            requests.JobStory,
            requests.Watch,
            requests.JobLogs,
            requests.WorkspaceList,
            requests.WorkspaceShow,
            requests.ProjectList,
            requests.DecisionList,
            requests.DecisionShow,
            requests.AgentList,
            requests.AgentShow,
            requests.AgentPeek,
            requests.AgentLogs,
        ),
        Verb.READ,
    ),
    requests.RunCommand: Verb.RUN,
    requests.AgentSend: Verb.SEND,
    **dict.fromkeys((requests.DecisionResolve, requests.DecisionReopen), Verb.ANSWER),
    **dict.fromkeys(
        (
            requests.JobCancel,
            requests.JobSuspend,
            requests.JobResume,
            requests.JobResumeAll,
            requests.JobPrune,
            requests.WorkspaceDrop,
            requests.WorkspacePrune,
            requests.AgentKill,
            requests.AgentResume,
            requests.AgentResumeAll,
            requests.AgentPrune,
        ),
        Verb.MANAGE,
    ),
    requests.AgentAttach: Verb.ATTACH,
    **dict.fromkeys(
        (
            requests.DaemonStop,
            requests.DaemonLogs,
            requests.TokenCreate,
            requests.TokenList,
            requests.TokenRevoke,
        ),
        Verb.DAEMON,
    ),
}
"""The verb that each request needs; None where everybody who got in may ask."""


def check(state: State, who: Principal, request: AnyRequest, now: int) -> AnyRequest:
    """The request as far as this principal may make it, its ids whole and within its project; raises Rejected."""
    if who.is_full:
        return request
    why = ended(state, who, now)
    if why:
        raise Rejected(
            f"{who.name} may do nothing any more: {why}",
            code="unauthorized",
            hint="unset OJ_AUTH_TOKEN, or set it to another token",
        )
    verb = VERBS[type(request)]
    if verb is not None and verb not in who.verbs:
        raise _refusal(who, request)
    if isinstance(request, requests.DecisionResolve):
        request = structs.replace(request, by=who.name)
    if isinstance(request, requests.TokenCreate):
        _check_heir(who, request, now)
    return request if who.reach is None else _within(state, who, request)


def ended(state: State, who: Principal, now: int) -> str:
    """Why a principal's token opens nothing any more; empty while it does."""
    if who.token_id:
        token = state.tokens.get(who.token_id)
        if token is None or token.revoked_at:
            return "its token was revoked"
        return "its token has expired" if token.ended_at(now) else ""
    if who.job_id and not is_live(state, who.job_id, who.subject):
        return "what it was made for is over"
    return ""


def is_live(state: State, job_id: JobId, subject: str) -> bool:
    """Whether that run or agent of the job is at work."""
    job = state.jobs.get(job_id)
    if job is None or job_id not in state.live:
        return False
    if subject == LOCALS:
        return job.evaluate and job.status is JobStatus.PENDING
    if subject.isdecimal():
        run = job.run_of(int(subject))
        return run is not None and run.status in ACTIVE
    agent = state.agents.get(AgentId(subject))
    return agent is not None and agent.job_id == job_id and agent.id in state.live_agents


def local_principal(
    token: str, authenticate: Callable[[str], Principal | None], is_ours: Callable[[str], bool]
) -> Principal | None:
    """Who a peer on the unix socket is, which runs as our own user; None when it is refused.

    A token narrows it. One that means nothing here is of another daemon, and takes nothing away from the person in whose shell
    it is set; but nobody becomes the owner by outliving a token of ours.
    """
    found = authenticate(token) if token else OWNER
    if found is None and not is_ours(token):
        return OWNER
    return found


def _refusal(who: Principal, request: AnyRequest, why: str = "") -> Rejected:
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(request).__name__).lower()
    verbs = ", ".join(verb for verb in Verb if verb in who.verbs)
    where = f" in project {who.reach}" if who.reach is not None else ""
    mine = " (the last two: jobs that its own job has started)" if who.job_id else ""
    return Rejected(
        f"{words} is refused: {why or f'{who.name} may only {verbs}{where}{mine}'}",
        code="unauthorized",
        hint="ask a person to do it"
        if who.job_id
        else "oj token create, by someone who may, makes a token for more",
    )


def _check_heir(who: Principal, request: requests.TokenCreate, now: int) -> None:
    """No token makes one that may do more than itself, or for longer."""
    beyond = [verb for verb in request.verbs if verb not in who.verbs]
    if beyond:
        raise _refusal(who, request, f"{who.name} may not {', '.join(beyond)} itself")
    if now + request.expires_ms > who.expires_at:
        raise _refusal(who, request, f"{who.name} itself expires earlier")


def _within(state: State, who: Principal, request: AnyRequest) -> AnyRequest:  # noqa: C901, PLR0911, PLR0912 - one line per kind
    project = who.reach
    match request:
        case requests.Hello() | requests.Ping() | requests.DaemonStatus():
            return request
        case (
            requests.DaemonStop()
            | requests.DaemonLogs()
            | requests.TokenCreate()
            | requests.TokenList()
            | requests.TokenRevoke()
        ):
            raise _refusal(who, request)
        case (
            requests.StatusOverview()
            | requests.JobList()
            | requests.WorkspaceList()
            | requests.DecisionList()
            | requests.ProjectList()
        ):
            return _narrowed(who, request)
        case requests.AgentList(job=ref):
            job = state.find_job(ref, project=project).id if ref is not None else None
            return structs.replace(_narrowed(who, request), job=job)
        case requests.RunCommand(key=key):
            known = state.keys.get(key) if key else None
            if known is not None and state.jobs[known].project != project:
                raise _refusal(who, request, "its key was used elsewhere")
            return _narrowed(who, request)
        case (
            requests.JobResumeAll()
            | requests.JobPrune()
            | requests.AgentResumeAll()
            | requests.AgentPrune()
            | requests.WorkspacePrune()
            | requests.WorkspaceDrop(id=None)
        ):
            if who.job_id:
                raise _refusal(who, request)
            return _narrowed(who, request)
        case requests.WorkspaceDrop(id=whole):
            workspace = state.find_workspace(whole or "", project=project)
            _check_own(who, request, state.jobs.get(workspace.job_id))
            return structs.replace(request, id=workspace.id)
        case requests.WorkspaceShow(id=ref):
            return structs.replace(request, id=state.find_workspace(ref, project=project).id)
        case requests.JobShow(id=ref) | requests.JobStory(id=ref) | requests.JobLogs(id=ref):
            return structs.replace(request, id=state.find_job(ref, project=project).id)
        case requests.JobResume(id=ref):
            found = state.find_job(ref, project=project)
            _check_own(who, request, found)
            return structs.replace(request, id=found.id)
        case requests.JobCancel(ids=refs) | requests.JobSuspend(ids=refs):
            jobs = [state.find_job(ref, project=project) for ref in refs]
            for each in jobs:
                _check_own(who, request, each)
            return structs.replace(request, ids=tuple(each.id for each in jobs))
        case requests.Watch(logs=logs):  # news.py looks for its ids, again and again
            mine = {id_: at for id_, at in logs.items() if _is_in(state, id_, project)}
            return structs.replace(_narrowed(who, request), logs=mine)
        case (
            requests.DecisionShow(id=ref)
            | requests.DecisionResolve(id=ref)
            | requests.DecisionReopen(id=ref)
        ):
            return structs.replace(request, id=state.find_decision(ref, project=project).id)
        case requests.AgentShow() | requests.AgentPeek() | requests.AgentLogs():
            return _of_agent(state, who, request)[0]
        case (
            requests.AgentAttach()
            | requests.AgentSend()
            | requests.AgentKill()
            | requests.AgentResume()
        ):
            narrowed, owner = _of_agent(state, who, request)
            _check_own(who, request, owner)
            return narrowed
        case _:
            assert_never(request)


_Listing = TypeVar(
    "_Listing",
    bound=requests.StatusOverview
    | requests.JobList
    | requests.JobResumeAll
    | requests.JobPrune
    | requests.WorkspaceList
    | requests.WorkspaceDrop
    | requests.WorkspacePrune
    | requests.DecisionList
    | requests.AgentList
    | requests.AgentResumeAll
    | requests.AgentPrune
    | requests.ProjectList
    | requests.Watch
    | requests.RunCommand,
)
_OfAgent = TypeVar(
    "_OfAgent",
    bound=requests.AgentShow
    | requests.AgentPeek
    | requests.AgentLogs
    | requests.AgentAttach
    | requests.AgentSend
    | requests.AgentKill
    | requests.AgentResume,
)


def _narrowed(who: Principal, request: _Listing) -> _Listing:
    if request.project is None or request.project == who.reach:
        return structs.replace(request, project=who.reach)
    raise _refusal(who, request, f"{who.name} reaches project {who.reach} only")


def _of_agent(state: State, who: Principal, request: _OfAgent) -> tuple[_OfAgent, Job]:
    """The request with a whole id, and the agent's job; an id that means a job goes on meaning all of its agents."""
    ref = request.id
    agent = state.find_agent(ref, project=who.reach)
    is_meant = agent.id.startswith(ref) or agent.id.startswith(ref, len("agt-"))
    whole = agent.id if is_meant else agent.job_id
    return structs.replace(request, id=whole), state.jobs[agent.job_id]


def _is_in(state: State, owner_id: str, project: str | None) -> bool:
    """Whether that job, or the job of that agent, is of the project."""
    agent = state.agents.get(AgentId(owner_id))
    job = state.jobs.get(agent.job_id if agent is not None else JobId(owner_id))
    return job is not None and job.project == project


def _check_own(who: Principal, request: AnyRequest, job: Job | None) -> None:
    """What steps and agents change is work that they have started."""
    if who.job_id and (job is None or job.started_by != who.job_id):
        what = f"job {short_id(job.id)}" if job is not None else "its job"
        raise _refusal(
            who,
            request,
            f"{what} was not started by job {short_id(who.job_id)}, for which {who.name} acts",
        )
