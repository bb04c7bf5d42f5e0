from __future__ import annotations

from oj_tui.store import MOST_ENDED, Store, owner_of
from tests.support.replies import (
    AGENT,
    DECISION,
    JOB,
    NOW,
    OTHER,
    WORKSPACE,
    Message,
    agent,
    decision,
    reply,
    summary,
    workspace,
)


def filled(**fields: object) -> Store:
    """A store that was told these."""
    store = Store()
    take(store, is_snapshot=True, **fields)
    return store


def take(store: Store, **fields: object) -> None:
    """News, as they come over the wire."""
    news: Message = reply("Changes", **{"seq": 1, "epoch": 1, **fields})
    store.take(news)


WHOLE: dict[str, object] = {
    "jobs": [summary()],
    "agents": [agent()],
    "decisions": [decision()],
    "workspaces": [workspace()],
}


def kept(store: Store) -> list[list[str]]:
    """Ids of all that is known."""
    return [list(each) for each in (store.jobs, store.agents, store.decisions, store.workspaces)]


def test_nothing_is_known_before_something_was_told() -> None:
    assert not Store().is_filled
    assert filled().is_filled


def test_a_snapshot_is_all_there_is() -> None:
    store = filled(**WHOLE)
    assert kept(store) == [[JOB], [AGENT], [DECISION], [WORKSPACE]]
    take(store, is_snapshot=True, jobs=[summary(id=OTHER)])
    assert kept(store) == [[OTHER], [], [], []]


def test_a_change_replaces_a_job_and_leaves_the_others() -> None:
    store = filled(jobs=[summary(), summary(id=OTHER)])
    take(store, jobs=[summary(status="waiting")])
    assert {id_: job["status"] for id_, job in store.jobs.items()} == {
        JOB: "waiting",
        OTHER: "running",
    }


def test_what_belongs_to_a_job_and_is_not_told_with_it_is_no_more() -> None:
    store = filled(**WHOLE)
    take(store, jobs=[summary()], agents=[agent(status="waiting")])
    assert kept(store) == [[JOB], [AGENT], [], []]
    assert store.agents[AGENT]["status"] == "waiting"


def test_a_job_that_is_gone_takes_all_that_is_its_own_along() -> None:
    store = filled(jobs=[summary(), summary(id=OTHER)], agents=[agent()], decisions=[decision()])
    take(store, gone=[JOB])
    assert kept(store) == [[OTHER], [], [], []]


def test_news_of_a_job_that_is_not_known_are_no_error() -> None:
    store = filled()
    take(store, gone=["job-never"], agents=[agent()])
    assert kept(store) == [[], [AGENT], [], []]


def test_the_agents_of_a_job_are_those_of_no_other() -> None:
    second = agent(id="agt-second", owner=f"job:{OTHER}")
    store = filled(jobs=[summary(), summary(id=OTHER)], agents=[agent(), second])
    assert store.agents_of(JOB) == [agent()]
    assert store.agents_of("job-never") == []


def test_open_decisions_are_told_oldest_first_and_others_not_at_all() -> None:
    young = decision(id="dec-young", created_at_ms=NOW)
    aside = decision(id="dec-aside", status="dismissed")
    store = filled(decisions=[young, aside, decision()])
    assert [each["id"] for each in store.open_decisions()] == [DECISION, "dec-young"]


def test_of_the_decisions_of_a_job_the_open_ones_come_first() -> None:
    young = decision(id="dec-young", created_at_ms=NOW)
    aside = decision(id="dec-aside", status="dismissed", created_at_ms=1)
    other = decision(id="dec-other", owner_id=OTHER)
    store = filled(decisions=[aside, young, decision(), other])
    assert [each["id"] for each in store.decisions_of(JOB)] == [DECISION, "dec-young", "dec-aside"]
    assert store.decisions_of("job-never") == []


def test_jobs_that_ended_longest_ago_are_forgotten_and_live_ones_never() -> None:
    ended = [
        summary(id=f"job-{at:04}", status="completed", updated_at_ms=NOW - at)
        for at in range(MOST_ENDED + 3)
    ]
    live = summary(updated_at_ms=1)
    store = filled(jobs=[live, *ended])
    assert JOB in store.jobs
    assert len(store.jobs) == MOST_ENDED + 1
    assert f"job-{MOST_ENDED - 1:04}" in store.jobs
    assert f"job-{MOST_ENDED:04}" not in store.jobs


def test_an_owner_is_told_by_its_id_alone() -> None:
    assert owner_of(agent(owner="crew:crw-1")) == "crw-1"
