"""The daemon is killed again and again under load: nothing acknowledged is lost, nothing runs twice, nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chaos import torment


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_two_hundred_kills_under_load_lose_nothing_repeat_nothing_and_leave_nothing(
    short_path: Path,
) -> None:
    acknowledged = torment(short_path, seed=20261124, kills=200)
    assert acknowledged["RunCommand"] > 50
    assert min(acknowledged[change] for change in ("JobCancel", "JobSuspend", "JobResume")) > 0
