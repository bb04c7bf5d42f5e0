"""Every recording of a real agent is read as written beside it (expected.json), line by line.

Rule: a folder of tests/data/drivers is a driver; a new recording needs its line in expected.json, which one writes by
looking at the recording, not at what comes out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_daemon.drivers import load_driver
from oj_daemon.drivers.base import Driver, Ends, Need, Signal

DATA = Path(__file__).parents[2] / "data" / "drivers"


def recordings() -> Iterator[tuple[str, str]]:
    for folder in sorted(path for path in DATA.iterdir() if path.is_dir()):
        for path in sorted(folder.iterdir()):
            if path.name != "expected.json":
                yield folder.name, path.name


def words(signal: Signal) -> str:
    """One signal in one line."""
    parts = [str(signal.state or "-"), signal.cause]
    if signal.need is not Need.NOTHING:
        parts.append(f"need={signal.need}")
    if signal.ends is not Ends.NOTHING:
        parts.append(f"ends={signal.ends}")
    if (prompt := signal.prompt) is not None:
        what = prompt.subtype or prompt.tool or "?"
        ready = "" if prompt.ready else "/unready"
        parts.append(f"prompt={prompt.kind}/{what}/{prompt.channel}{ready}")
    if (error := signal.error) is not None:
        retry = f" {error.attempt}/{error.attempts}" if error.is_retrying else ""
        parts.append(f"error={error.category}{retry}")
    parts += ["tentative"] * signal.tentative + ["second"] * signal.is_second_stop
    parts += ["turn"] * signal.turn_started
    if (dialog := signal.dialog) is not None:
        parts.append(f"dialog={dialog.name} {dialog.selected}/{len(dialog.options)}")
    if signal.usage is not None:
        parts.append(f"usage={signal.usage.key}")
    return " ".join(parts)


def read(driver: Driver, path: Path) -> list[str]:
    text = path.read_text()
    if path.name.startswith("screen"):
        return [words(driver.read_screen(text.split("\n")))]
    lines = text.splitlines()
    if path.name.startswith("transcript"):
        return [" | ".join(map(words, driver.read_log(line))) for line in lines]
    found = []
    for line in lines:
        event, _, payload = line.partition("\t")
        signal = driver.read_hook(event.removesuffix("-answering"), json.loads(payload))
        assert signal.session_id
        assert signal.transcript_path.endswith(f"/{signal.session_id}.jsonl")
        found.append(words(signal))
    return found


@pytest.mark.parametrize(("driver", "name"), list(recordings()))
def test_a_recording_is_read_as_expected(driver: str, name: str) -> None:
    expected = json.loads((DATA / driver / "expected.json").read_text())
    assert read(load_driver(driver), DATA / driver / name) == expected[name]
