"""Asks a daemon's HTTP port as a kubelet and a scraper do."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def unmet(port: int) -> dict[str, str]:
    """The conditions of /readyz that are not met, with their reasons."""
    status, body = ask(port, "/readyz")
    told: dict[str, Any] = json.loads(body)
    found = {each["name"]: str(each["reason"]) for each in told["conditions"] if not each["ok"]}
    assert (status == 200) == (not found) == told["ready"]
    return found


def scrape(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every figure of /metrics, by name and labels."""
    status, body = ask(port, "/metrics")
    assert status == 200, body
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def figure(port: int, name: str, **labels: str) -> float | None:
    """One figure of /metrics; None when it is not there."""
    return scrape(port).get((name, frozenset(labels.items())))
