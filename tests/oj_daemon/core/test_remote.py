"""Jobs whose caller is on another machine: their place is made here, and nothing of the caller's folders is touched."""

from __future__ import annotations

import pytest

from oj_daemon.core import effects, events
from oj_daemon.core.narration import narrate
from oj_daemon.core.state import Policy
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import Shell, Source, SourceKind, Text
from oj_daemon.wire import requests
from oj_daemon.wire.names import JobStatus, WorkspaceId, WorkspaceKind, WorkspaceStatus
from tests.support.scenario import Scenario, agent_step, coder, job, runbook, step

URL = "git@example.com:team/shop.git"
REPO = requests.Repo(root="/home/ann/shop", url=URL, branch="feature", head="a" * 40)
FAR = {
    "is_remote": True,
    "repo": REPO,
    "project_root": "/home/ann/shop",
    "invoke_dir": "/home/ann/shop/web",
}


def git(**attributes: object) -> Source:
    return Source(kind=SourceKind.GIT, **attributes)  # type: ignore[arg-type]  # texts


def shell(text: str) -> Text:
    return Text(text=f"$({text})", shell=Shell(text=f"$({text})", script=text))


def ready(world: Scenario) -> effects.CreateWorkspace:
    """The order to make the workspace, carried out."""
    (made,) = world.taken(effects.CreateWorkspace)
    world.tell(events.WorkspaceReady(workspace_id=made.workspace_id, base="b" * 40))
    return made


def test_a_job_works_in_a_clone_at_the_callers_branch_and_in_the_callers_folder_of_it() -> None:
    world = Scenario(job(step("a")))
    world.run(**FAR)
    made = ready(world)
    assert (made.kind, made.repo, made.start, made.head) == (
        WorkspaceKind.CLONE,
        URL,
        "feature",
        "a" * 40,
    )
    assert (made.branch, made.folder, made.all_branches) == ("", "web", False)
    (order,) = world.taken(effects.StartStep)
    assert order.cwd == f"{made.path}/web"
    assert world.job.vars["invoke.dir"] == f"{made.path}/web"
    assert "source.root" not in world.job.vars
    assert "/home/ann" not in str(order)
    world.exits("a")
    (removed,) = world.taken(effects.DeleteWorkspace)
    assert (removed.kind, removed.base, removed.force) == (WorkspaceKind.CLONE, "b" * 40, False)


def test_a_caller_at_the_top_or_in_a_project_below_it_is_at_the_same_place_of_the_clone() -> None:
    world = Scenario(job(step("a", cwd="sub")))
    world.run(**{**FAR, "invoke_dir": REPO.root, "project_root": f"{REPO.root}/web"})
    made = ready(world)
    (order,) = world.taken(effects.StartStep)
    assert order.cwd == f"{made.path}/sub"
    assert world.job.project_root == f"{made.path}/web"
    assert world.state.projects["demo"].root == f"{REPO.root}/web"


def test_a_git_source_gets_its_branch_in_the_clone() -> None:
    world = Scenario(job(step("a"), source=git()))
    world.run(**FAR)
    made = ready(world)
    assert (made.start, made.branch, made.all_branches) == (
        "feature",
        f"ws-{world.job.id[4:12]}",
        False,
    )
    (order,) = world.taken(effects.StartStep)
    assert order.cwd == made.path
    source = {name: value for name, value in world.job.vars.items() if name.startswith("source.")}
    assert source == {
        "source.id": made.workspace_id,
        "source.root": made.path,
        "source.nonce": world.job.id[4:12],
        "source.type": "clone",
        "source.repo_root": made.path,
        "source.repo": URL,
        "source.branch": made.branch,
    }


def test_a_named_branch_or_a_ref_needs_the_other_branches_too() -> None:
    for source in (git(branch="work"), git(ref=Text(text="origin/main"))):
        world = Scenario(job(step("a"), source=source))
        world.run(**FAR)
        made = ready(world)
        assert made.all_branches
        assert made.ref == world.job.vars.get("source.ref", "")
        assert world.started() == ["a"]


def test_a_ref_of_a_shell_is_evaluated_in_the_clone_before_the_branch_is_made() -> None:
    world = Scenario(job(step("a"), source=git(ref=shell("git rev-parse HEAD~1"))))
    world.run(**FAR)
    assert world.taken(effects.EvaluateJob) == []
    made = ready(world)
    assert (made.branch, made.ref) == ("", "")
    (order,) = world.taken(effects.EvaluateJob)
    assert order.cwd == f"{made.path}/web"
    world.restart()
    assert world.taken(effects.EvaluateJob) == [order]
    world.tell(events.JobEvaluated(job_id=world.job.id, vars={"source.ref": "abc"}))
    assert world.started() == []
    again = ready(world)
    assert (again.workspace_id, again.branch, again.ref) == (
        made.workspace_id,
        world.job.vars["source.branch"],
        "abc",
    )
    assert world.started() == ["a"]


def test_locals_of_a_shell_are_evaluated_in_the_clone() -> None:
    world = Scenario(job(step("a"), locals={"now": shell("date")}))
    world.run(**FAR)
    world.restart()
    assert world.taken(effects.EvaluateJob) == []
    made = ready(world)
    (order,) = world.taken(effects.EvaluateJob)
    assert order.cwd == f"{made.path}/web"
    world.tell(events.JobEvaluated(job_id=world.job.id, vars={"local.now": "today"}))
    assert world.started() == ["a"]
    assert world.taken(effects.CreateWorkspace) == []


def test_a_folder_source_stays_an_empty_folder_and_stands_in_for_the_callers_own() -> None:
    world = Scenario(job(step("a"), source=Source(kind=SourceKind.FOLDER)))
    world.run(**FAR)
    made = ready(world)
    assert (made.kind, made.repo) == (WorkspaceKind.FOLDER, "")
    assert world.job.vars["invoke.dir"] == world.job.vars["source.root"] == made.path
    assert world.job.vars["source.type"] == "folder"
    assert world.started() == ["a"]


@pytest.mark.parametrize(
    ("repo", "reason"),
    [
        (None, "is not in a git repository"),
        (requests.Repo(root="/home/ann/shop"), "has no remote `origin`"),
        (requests.Repo(root="/home/ann/shop", url="../shared"), "'../shared', which is no URL"),
        (requests.Repo(root="/home/ann/shop", url="--upload-pack=x"), "which is no URL"),
    ],
)
def test_without_a_url_there_is_an_empty_folder_and_a_git_source_is_refused(
    repo: requests.Repo | None, reason: str
) -> None:
    world = Scenario(job(step("a")))
    world.run(**{**FAR, "repo": repo})
    made = ready(world)
    assert made.kind is WorkspaceKind.FOLDER
    (order,) = world.taken(effects.StartStep)
    assert order.cwd == made.path
    checkout = world.job.checkout
    assert checkout is not None
    assert reason in checkout.note
    with pytest.raises(Rejected, match="works in a clone") as caught:
        Scenario(job(step("a"), source=git())).run(**{**FAR, "repo": repo})
    assert reason in caught.value.message
    assert caught.value.hint


def test_an_agent_works_where_a_step_would_and_reads_its_prompt_from_the_clone() -> None:
    book = runbook(job(agent_step("a")))
    book = type(book)(
        path=book.path,
        commands=book.commands,
        jobs=book.jobs,
        agents={"coder": coder(cwd="src", prompt=None, prompt_file="prompts/x.md")},
    )
    world = Scenario(book)
    world.run(**FAR)
    made = ready(world)
    (order,) = world.taken(effects.SpawnAgent)
    assert order.cwd == f"{made.path}/web/src"
    assert order.prompt_file == f"{made.path}/prompts/x.md"


def test_a_clone_that_cannot_be_made_fails_the_job_and_resume_tries_again() -> None:
    world = Scenario(job(step("a"), source=git()))
    world.run(**FAR)
    (made,) = world.taken(effects.CreateWorkspace)
    reason = "clone x: it has no branch feature (git push -u origin feature)"
    world.tell(events.WorkspaceFailed(workspace_id=made.workspace_id, reason=reason))
    assert (world.status, world.job.error) == (JobStatus.FAILED, f"no workspace: {reason}")
    world.ask(requests.JobResume(id=world.job.id))
    assert ready(world) == made
    assert world.started() == ["a"]


def kept(world: Scenario) -> WorkspaceId:
    """A job that was completed, and whose clone is kept."""
    world.run(**FAR)
    made = ready(world)
    world.exits("a")
    assert len(world.taken(effects.DeleteWorkspace)) == 1
    world.tell(events.WorkspaceKept(workspace_id=made.workspace_id, reason="not pushed"))
    return made.workspace_id


def test_work_that_was_not_pushed_keeps_the_clone_and_the_reason() -> None:
    world = Scenario(job(step("a")))
    workspace_id = kept(world)
    workspace = world.state.workspaces[workspace_id]
    assert (workspace.status, workspace.reason) == (WorkspaceStatus.KEPT, "not pushed")
    assert world.status is JobStatus.DONE
    world.restart()
    assert world.taken(effects.DeleteWorkspace) == []
    told = events.WorkspaceKept(workspace_id=workspace_id, reason="not pushed")
    ((job_id, label, text),) = narrate(world.state, told)
    assert (job_id, label) == (world.job.id, "job")
    assert "workspace kept: not pushed" in text
    assert f"oj workspace drop {workspace_id[4:12]}" in text


def test_a_kept_clone_is_looked_at_again_by_prune_and_removed_by_who_names_it() -> None:
    world = Scenario(job(step("a")))
    workspace_id = kept(world)
    for request, force in (
        (requests.WorkspacePrune(all=True), False),
        (requests.WorkspaceDrop(all=True), False),
        (requests.JobPrune(all=True), False),
        (requests.WorkspaceDrop(all=True, force=True), True),
        (requests.WorkspaceDrop(id=workspace_id), True),
    ):
        world.ask(request)
        (order,) = world.taken(effects.DeleteWorkspace)
        assert order.force is force
        world.tell(events.WorkspaceKept(workspace_id=workspace_id, reason="not pushed"))
    assert not world.state.jobs  # and its clone has outlived it
    world.ask(requests.WorkspaceDrop(id=workspace_id))
    world.restart()
    (order,) = world.taken(effects.DeleteWorkspace)
    assert order.force
    world.tell(events.WorkspaceDeleted(workspace_id=workspace_id))
    assert not world.state.workspaces


def test_a_failed_job_whose_clone_was_kept_by_prune_goes_on_in_it() -> None:
    world = Scenario(job(step("a"), source=git()))
    world.run(**FAR)
    made = ready(world)
    world.exits("a", 1)
    world.started()
    world.ask(requests.WorkspacePrune(all=True))
    world.ask(requests.JobResume(id=world.job.id))
    assert world.started() == []
    world.tell(events.WorkspaceKept(workspace_id=made.workspace_id, reason="not pushed"))
    assert world.started() == ["a#2"]


def test_the_notes_about_a_clone_are_told_in_the_jobs_log() -> None:
    world = Scenario(job(step("a")))
    world.run(**FAR)
    (made,) = world.taken(effects.CreateWorkspace)
    fact = events.WorkspaceReady(workspace_id=made.workspace_id, notes=("one", "two"))
    world.tell(fact)
    assert [text for _, _, text in narrate(world.state, fact)] == ["one", "two"]


def test_a_local_job_is_as_it_was() -> None:
    world = Scenario(job(step("a")))
    world.run(repo=REPO)
    assert world.job.checkout is None
    assert world.taken(effects.CreateWorkspace) == []
    assert world.started() == ["a"]


def in_a_pod(world: Scenario) -> effects.CreateWorkspace:
    """A job whose place is up."""
    world.policy = Policy(runtime="kubernetes")
    world.run(**FAR)
    (made,) = world.taken(effects.CreateWorkspace)
    route = {"pod": "oj-x", "uid": "u", "spawn": "1"}
    world.tell(events.WorkspaceReady(workspace_id=made.workspace_id, route=route))
    return made


def test_a_job_whose_place_was_dropped_does_not_go_on_on_the_daemons_machine() -> None:
    world = Scenario(job(step("a", on_done=["b"]), step("b")))
    made = in_a_pod(world)
    assert world.started() == ["a"]
    world.ask(requests.WorkspaceDrop(id=made.workspace_id, force=True))
    world.tell(events.WorkspaceDeleted(workspace_id=made.workspace_id))
    world.exits("a")
    assert world.started() == []
    assert world.status is JobStatus.FAILED
    assert "its place was removed; oj resume makes it again" in world.job.error
    world.ask(requests.JobResume(id=world.job.id))
    (again,) = world.taken(effects.CreateWorkspace)
    assert again.runtime == "kubernetes"


def test_what_a_place_waited_for_before_a_crash_is_not_said_for_ever() -> None:
    world = Scenario(job(step("a")))
    made = in_a_pod(world)
    world.tell(events.WorkspaceWaits(workspace_id=made.workspace_id, reason="no node"))
    assert world.state.workspaces[made.workspace_id].waits_for == "no node"
    world.restart()
    assert world.state.workspaces[made.workspace_id].waits_for == ""
