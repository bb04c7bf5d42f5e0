"""State: what is derived from the records is what a look at all of them would find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.core import views
from oj_daemon.core.state import Job, State
from oj_daemon.errors import Rejected
from oj_daemon.wire import requests
from oj_daemon.wire.names import JobId

IDS = st.builds(
    lambda prefix, tail: JobId(prefix + tail),
    st.sampled_from(["job-", "crw-"]),
    st.text("01a", min_size=3, max_size=3),
)
REFS = st.one_of(
    st.text("01a", max_size=4), IDS.flatmap(lambda id_: st.integers(1, 7).map(lambda n: id_[:n]))
)


def put(state: State, job_id: str, project: str = "p") -> None:
    state.put_job(
        Job(
            id=JobId(job_id),
            kind="build",
            name=job_id,
            project=project,
            project_root="/p",
            runbook="r",
            invoke_dir="/p",
            crew=job_id.startswith("crw-"),
        )
    )


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "ask"]), IDS, REFS), max_size=40))
def test_a_part_of_an_id_finds_what_a_look_at_every_job_would_find(
    steps: list[tuple[str, JobId, str]],
) -> None:
    state = State()
    gone: set[JobId] = set()
    for what, job_id, ref in steps:
        if what == "put" and job_id not in gone:  # an id is never used again
            put(state, job_id)
        elif what == "drop" and job_id in state.jobs:
            state.drop_job(job_id)
            gone.add(job_id)
        expected = [
            id_ for id_ in state.jobs if ref and (id_.startswith(ref) or id_.startswith(ref, 4))
        ]
        assert sorted(state.jobs_like(ref)) == sorted(expected)


def test_a_part_of_an_id_that_several_jobs_share_is_refused() -> None:
    state = State()
    put(state, "job-abc1")
    put(state, "crw-abc2")
    assert state.find_job("abc2").id == "crw-abc2"
    with pytest.raises(Rejected, match="could be any of 2 jobs"):
        state.find_job("abc")


def test_the_jobs_of_a_project_are_listed_newest_change_first_and_counted() -> None:
    state = State()
    for job_id, project in (("job-1", "p"), ("job-2", "q"), ("job-3", "p"), ("crw-4", "p")):
        put(state, job_id, project)
    put(state, "job-1")
    listed = views.jobs(state, requests.JobList(project="p", limit=1))
    assert ([job.id for job in listed.jobs], listed.total) == (["job-1"], 2)
    every = views.jobs(state, requests.JobList(project="p", all_kinds=True))
    assert [job.id for job in every.jobs] == ["job-1", "crw-4", "job-3"]
    assert views.jobs(state, requests.JobList(project="none")).total == 0
