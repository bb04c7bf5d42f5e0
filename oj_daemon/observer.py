"""What parts of the daemon tell whoever counts.

Rule: only the standard library, and harmless: without an HTTP port this very class is used and nothing is counted; with one,
`metrics.Metrics` takes its place. Nothing that names a job, a pod or a person may be passed: it would become a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Observer:
    """Listens and forgets."""

    def note_api_call(self, verb: str, code: int | str, seconds: float) -> None:
        """A call of the Kubernetes API was answered: `get`, `watch` ..., and the status or `error` when there was none."""

    def note_lost(self, diagnosis: str) -> None:
        """A place was lost through no fault of what ran in it: the kind of the diagnosis."""

    def read_pods(self, count: Callable[[], Mapping[str, int]], age: Callable[[], float]) -> None:
        """From here on there are pods to count, by diagnosis; and seconds since the cluster last told of them."""

    def note_notified(self, sink: str, outcome: str) -> None:
        """A notification was sent, or given up: `webhook` or `desktop`, and what became of it."""
