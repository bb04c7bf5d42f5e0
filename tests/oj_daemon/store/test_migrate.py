from __future__ import annotations

import pytest

from oj_daemon.errors import StoreError
from oj_daemon.store.migrate import MIGRATIONS, VERSION, migrate

STEPS = {
    1: lambda data: {**data, "two": 2},
    2: lambda data: {**data, "three": [data["two"]]},
}


def test_a_snapshot_of_this_version_is_left_alone() -> None:
    assert migrate(VERSION, {"jobs": {}}) == {"jobs": {}}


def test_every_older_version_has_a_way_to_this_one() -> None:
    assert sorted(MIGRATIONS) == list(range(1, VERSION))


def test_an_old_snapshot_goes_through_every_version_in_between() -> None:
    assert migrate(1, {"one": 1}, migrations=STEPS, current=3) == {"one": 1, "two": 2, "three": [2]}
    assert migrate(2, {"two": 7}, migrations=STEPS, current=3) == {"two": 7, "three": [7]}


def test_a_newer_snapshot_is_refused_and_both_versions_are_named() -> None:
    with pytest.raises(StoreError, match=r"snapshot version 99 is newer than supported \(1\)"):
        migrate(99, {})


def test_a_version_with_no_way_to_this_one_is_refused() -> None:
    with pytest.raises(StoreError, match="no migration leads from 3 to 4"):
        migrate(1, {}, migrations=STEPS, current=4)
