"""Every fact has its place in the tables that say what it changes."""

from __future__ import annotations

from typing import get_args

from oj_daemon.core import agent, decision, events, job, notification, token, workspace


def test_every_fact_changes_something_but_those_that_only_lead_to_others() -> None:
    nouns = {
        *job.CHANGES,
        *workspace.CHANGES,
        *agent.CHANGES,
        *decision.CHANGES,
        *notification.CHANGES,
        *token.CHANGES,
    }
    changing = {*nouns, events.RunbookLoaded, events.ProjectSeen}
    assert set(get_args(events.AnyEvent)) - changing == {events.JobEvaluateFailed}


def test_every_fact_about_a_job_and_what_belongs_to_it_may_lead_to_others() -> None:
    leading = {
        *job.REACTIONS,
        *workspace.REACTIONS,
        *agent.REACTIONS,
        *decision.REACTIONS,
        *notification.REACTIONS,
    }
    assert set(get_args(events.AnyEvent)) - leading == {
        events.RunbookLoaded,
        events.ProjectSeen,
        events.WorkspaceWaits,
        events.WorkspaceMoved,
        *get_args(events.TokenEvent),
    }
