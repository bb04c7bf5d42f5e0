"""What the daemon has told so far, kept for all screens.

Rule: pure, and changed by `take` alone. Views are the plain dictionaries of the wire; their shapes are the structs of
oj_daemon/wire/replies.py.
"""

from __future__ import annotations

from typing import Any, Final

View = dict[str, Any]
"""A view as it came over the wire."""

MOST_ENDED: Final = 2_000
"""Jobs that have ended are forgotten beyond this number, those that ended first: the view may stay open for weeks."""
LIVE: Final = frozenset({"pending", "running", "waiting", "ending", "suspended"})
"""Statuses of jobs that have not ended, or may go on."""

FIGURES: Final = ("files_read", "files_written", "commands", "usage")
"""What of an AgentView changes without being told."""


class Store:
    """All that is known."""

    def __init__(self) -> None:
        self.jobs: dict[str, View] = {}
        """JobSummary by id, stand-alone agents (`crw-`) included."""
        self.agents: dict[str, View] = {}
        """AgentView by id."""
        self.decisions: dict[str, View] = {}
        """DecisionView by id: open ones, and those put aside."""
        self.workspaces: dict[str, View] = {}
        """WorkspaceView by id."""
        self._owned: dict[str, list[tuple[dict[str, View], str]]] = {}
        """Job -> where something of it is kept, and by which id."""
        self.is_filled = False
        """Something was told; until then nothing can be said of what there is."""

    def take(self, changes: View) -> None:
        """Take in one Changes."""
        if changes.get("is_snapshot"):
            for kept in (self.jobs, self.agents, self.decisions, self.workspaces, self._owned):
                kept.clear()
        for job_id in changes.get("gone", ()):
            self._forget(job_id)
        for job in changes.get("jobs", ()):
            # What belongs to a job is told whole with it: what is not told is no more.
            self._forget(job["id"])
            self.jobs[job["id"]] = job
        for agent in changes.get("agents", ()):
            self._keep(self.agents, agent, owner_of(agent))
        for decision in changes.get("decisions", ()):
            self._keep(self.decisions, decision, decision["owner_id"])
        for workspace in changes.get("workspaces", ()):
            self._keep(self.workspaces, workspace, owner_of(workspace))
        self.is_filled = True
        self._trim()

    def take_figures(self, agents: list[View]) -> None:
        """Take in what agents did and spent: that alone is no news, and has to be asked for."""
        for agent in agents:
            known = self.agents.get(agent["id"])
            if known is not None:
                known.update({name: agent[name] for name in FIGURES})

    def agents_of(self, job_id: str) -> list[View]:
        """The sessions of a job, oldest first."""
        mine = self._owned.get(job_id, ())
        return [self.agents[id_] for where, id_ in mine if where is self.agents]

    def decisions_of(self, job_id: str) -> list[View]:
        """What a human is asked about a job: open ones first, then those put aside; oldest first."""
        mine = self._owned.get(job_id, ())
        found = [self.decisions[id_] for where, id_ in mine if where is self.decisions]
        return sorted(found, key=lambda each: (each["status"] != "open", each["created_at_ms"]))

    def open_decisions(self) -> list[View]:
        """What a human is asked now, oldest first."""
        found = [each for each in self.decisions.values() if each["status"] == "open"]
        return sorted(found, key=lambda each: int(each["created_at_ms"]))

    def _keep(self, where: dict[str, View], view: View, job_id: str) -> None:
        where[view["id"]] = view
        self._owned.setdefault(job_id, []).append((where, view["id"]))

    def _forget(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)
        for where, id_ in self._owned.pop(job_id, ()):
            where.pop(id_, None)

    def _trim(self) -> None:
        if len(self.jobs) <= MOST_ENDED:
            return
        ended = [job for job in self.jobs.values() if job["status"] not in LIVE]
        ended.sort(key=lambda job: int(job["updated_at_ms"]))
        for job in ended[: max(0, len(ended) - MOST_ENDED)]:
            self._forget(job["id"])


def owner_of(view: View) -> str:
    """The id of the job that an agent or a workspace belongs to."""
    return str(view["owner"]).partition(":")[2]
