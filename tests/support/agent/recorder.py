"""A hook for tests: writes down what it was given, and answers what it finds.

Rule: `recorder.py EVENT FOLDER` appends `{"event": ..., "payload": ...}` to FOLDER/hooks.jsonl as one write; then prints
FOLDER/answers/EVENT.N, N being how often this event came (from 1). While FOLDER/answers/EVENT.hold exists it first waits
for that file to appear.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(event: str, folder: Path) -> None:
    """Record one call."""
    payload = json.load(sys.stdin)
    line = json.dumps({"event": event, "payload": payload}, ensure_ascii=False) + "\n"
    log = folder / "hooks.jsonl"
    with log.open("ab", buffering=0) as file:
        file.write(line.encode())
    mark = json.dumps({"event": event})[:-1] + ","
    number = sum(entry.startswith(mark) for entry in log.read_text("utf-8").splitlines())
    answer = folder / "answers" / f"{event}.{number}"
    hold = folder / "answers" / f"{event}.hold"
    while hold.exists() and not answer.exists():
        time.sleep(0.03)
    if answer.exists():
        sys.stdout.write(answer.read_text("utf-8"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
