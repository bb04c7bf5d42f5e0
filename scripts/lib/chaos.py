"""Rounds of the chaos test (tests/support/chaos.py) with ever new seeds; see scripts/chaos."""

from __future__ import annotations

import itertools
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.chaos import torment

KILLS = 200


def main(rounds: int | None, seed: int | None) -> None:
    """Run the rounds; the folder of a failed one is kept and named."""
    for number in itertools.count(1) if rounds is None else range(1, rounds + 1):
        chosen = secrets.randbelow(10**9) if seed is None else seed + number - 1
        folder = Path(tempfile.mkdtemp(prefix="oj-chaos-", dir="/tmp"))
        began = time.monotonic()
        print(f"round {number}, seed {chosen}, {folder}", flush=True)
        acknowledged = torment(folder, seed=chosen, kills=KILLS, clients=3 + number % 4)
        shutil.rmtree(folder)
        said = ", ".join(f"{count} {name}" for name, count in sorted(acknowledged.items()))
        print(
            f"  {KILLS} kills in {time.monotonic() - began:.0f} s; acknowledged: {said}", flush=True
        )


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    try:
        main(numbers[0] if numbers else None, numbers[1] if len(numbers) > 1 else None)
    except KeyboardInterrupt:
        sys.exit(130)
