"""Values of unknown JSON."""

from __future__ import annotations

from oj_daemon.drivers.fields import compact


def test_equal_objects_are_equal_texts_whatever_the_order_of_their_keys() -> None:
    """Claude Code writes the same question to its log and to its hooks with keys in another order."""
    log = {"questions": [{"header": "H", "multiSelect": False, "options": []}]}
    hook = {"questions": [{"header": "H", "options": [], "multiSelect": False}]}
    assert compact(log) == compact(hook)
    assert compact(None) == ""
