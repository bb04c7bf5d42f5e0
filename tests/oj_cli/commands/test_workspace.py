"""`oj workspace`: what is asked of the daemon, and what is shown of its answers."""

from __future__ import annotations

import pytest

from tests.support.harness import Harness
from tests.support.replies import WORKSPACE, Message, reply, workspace


def untagged(view: Message) -> Message:
    return {key: value for key, value in view.items() if key != "type"}


def test_an_empty_list_is_one_sentence(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("WorkspaceList", reply("Workspaces", workspaces=[], total=0))
    assert daemon_cli.oj("workspace", "list") == (0, "No workspaces\n", "")
    assert daemon_cli.oj("workspace", "list", "-o", "json") == (0, "[]\n", "")
    assert daemon_cli.daemon.of("WorkspaceList")[0] == {"project": None, "limit": 20}


def test_a_list_shows_each_workspace_in_a_row(daemon_cli: Harness) -> None:
    views = [
        workspace(),
        workspace(
            id="wks-zzzzzzzzzzzzzzzz", path="/p", branch="", kind="folder", status="deleting"
        ),
    ]
    daemon_cli.daemon.answer("WorkspaceList", reply("Workspaces", workspaces=views, total=3))
    assert daemon_cli.oj("workspace", "list", "-n", "2", "--project", "shop") == (
        0,
        (
            "ID        PROJECT  PATH                                    BRANCH   STATUS\n"
            "8a7b6c5d  shop     /state/workspaces/wks-8a7b6c5d4e3f2g1h  ws-8a7b  ready\n"
            "zzzzzzzz  shop     /p                                      -        deleting\n"
            "... 1 more not shown (use --no-limit or -n N)\n"
        ),
        "",
    )
    assert daemon_cli.oj("workspace", "list", "-o", "json").json == [
        untagged(view) for view in views
    ]


def test_a_list_says_why_a_workspace_was_kept(daemon_cli: Harness) -> None:
    views = [workspace(status="kept", reason="not pushed", kind="clone"), workspace()]
    daemon_cli.daemon.answer("WorkspaceList", reply("Workspaces", workspaces=views, total=2))
    first, second, third = daemon_cli.oj("workspace", "list").out.splitlines()
    assert first.endswith("STATUS  REASON")
    assert second.endswith("kept    not pushed")
    assert third.rstrip().endswith("ready")


def test_a_clone_that_drop_leaves_because_of_what_is_in_it_is_told(daemon_cli: Harness) -> None:
    dropped = reply("WorkspacesDropped", dropped=[workspace()], skipped=[])
    left = workspace(status="kept", reason="not pushed")
    daemon_cli.daemon.answer("WorkspaceDrop", dropped)
    daemon_cli.daemon.answer("WorkspaceList", reply("Workspaces", workspaces=[left], total=1))
    said = daemon_cli.oj("workspace", "drop", "--all")
    assert f"could not delete workspace {WORKSPACE}: not pushed" in said.err
    assert "Deleted" not in said.out


def test_show_tells_path_branch_owner_and_status(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("WorkspaceShow", workspace())
    assert daemon_cli.oj("workspace", "show", "8a7") == (
        0,
        """\
Workspace: wks-8a7b6c5d4e3f2g1h
Path:      /state/workspaces/wks-8a7b6c5d4e3f2g1h
Branch:    ws-8a7b
Kind:      worktree
Owner:     job:job-4f9h2k7m1n3p5q8r (running)
Project:   shop
Status:    ready
Created:   2027-01-15 07:00:00
""",
        "",
    )
    assert daemon_cli.oj("workspace", "show", "8a7", "-o", "json").json == untagged(workspace())


def test_an_unknown_workspace_fails(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("WorkspaceShow", "Workspace not found: x")
    assert daemon_cli.oj("workspace", "show", "x") == (1, "", "Error: Workspace not found: x\n")


def test_a_drop_waits_until_the_folder_is_gone(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oj_cli.commands.workspace.pause", lambda _seconds: None)
    daemon_cli.daemon.answer(
        "WorkspaceDrop", reply("WorkspacesDropped", dropped=[workspace()], skipped=[])
    )
    daemon_cli.daemon.answer(
        "WorkspaceList",
        reply("Workspaces", workspaces=[workspace(status="deleting")], total=1),
        reply("Workspaces", workspaces=[], total=0),
    )
    assert daemon_cli.oj("workspace", "drop", "8a7") == (
        0, f"Dropping workspace {WORKSPACE} (/state/workspaces/{WORKSPACE})\nDeleted\n", "",
    )  # fmt: skip
    assert daemon_cli.daemon.of("WorkspaceDrop") == [
        {"id": "8a7", "failed": False, "all": False, "force": False, "project": None}
    ]
    assert len(daemon_cli.daemon.of("WorkspaceList")) == 2


def test_a_drop_that_fails_says_so(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "WorkspaceDrop", reply("WorkspacesDropped", dropped=[workspace()], skipped=[])
    )
    stuck = workspace(status="failed", reason="permission denied")
    daemon_cli.daemon.answer("WorkspaceList", reply("Workspaces", workspaces=[stuck], total=1))
    done = daemon_cli.oj("workspace", "drop", "--all", "--force", "--project", "p")
    assert done.err == f"Warning: could not delete workspace {WORKSPACE}: permission denied\n"
    assert daemon_cli.daemon.of("WorkspaceDrop") == [
        {"id": None, "failed": False, "all": True, "force": True, "project": "p"}
    ]


def test_a_workspace_that_is_in_use_is_kept_and_the_drop_fails(daemon_cli: Harness) -> None:
    answer = reply(
        "WorkspacesDropped",
        dropped=[],
        skipped=[[WORKSPACE, "its job is running; --force drops it"]],
    )
    daemon_cli.daemon.answer("WorkspaceDrop", answer)
    assert daemon_cli.oj("workspace", "drop", "8a7") == (
        1, f"Skipped workspace {WORKSPACE}: its job is running; --force drops it\n", "",
    )  # fmt: skip
    assert daemon_cli.oj("workspace", "drop", "--failed").code == 0


def test_nothing_to_drop_is_a_sentence(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("WorkspaceDrop", reply("WorkspacesDropped", dropped=[], skipped=[]))
    assert daemon_cli.oj("workspace", "drop", "--failed") == (0, "No workspaces deleted\n", "")
    assert daemon_cli.oj("workspace", "drop", "--failed", "-o", "json").json == {
        "dropped": [],
        "skipped": [],
    }


@pytest.mark.parametrize("args", [[], ["x", "--all"], ["--failed", "--all"]])
def test_a_drop_needs_exactly_one_choice(cli: Harness, args: list[str]) -> None:
    done = cli.oj("workspace", "drop", *args)
    assert (done.code, done.out) == (1, "")
    assert "which workspace?" in done.err
    assert list(cli.state.iterdir()) == []


def test_a_prune_counts_what_it_kept(daemon_cli: Harness) -> None:
    entry = {"id": WORKSPACE, "name": "", "detail": "2d old"}
    daemon_cli.daemon.answer(
        "WorkspacePrune", reply("Pruned", dry_run=False, pruned=[entry], skipped=1)
    )
    assert daemon_cli.oj("workspace", "prune", "--all") == (
        0, f"Pruned workspace {WORKSPACE}: 2d old\nPruned 1 workspace, 1 skipped\n", "",
    )  # fmt: skip
    assert daemon_cli.daemon.of("WorkspacePrune") == [
        {"all": True, "dry_run": False, "project": None}
    ]
