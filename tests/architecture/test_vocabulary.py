"""The words of the protocol: unions hold every class, tags are unique and well formed, orders and requests name answers."""

from __future__ import annotations

import re
from types import ModuleType
from typing import get_args

import msgspec
import pytest

from oj_daemon.core import effects, events
from oj_daemon.wire import replies, requests

FACTS: tuple[type[msgspec.Struct], ...] = get_args(events.AnyEvent)
ORDERS: tuple[type[msgspec.Struct], ...] = get_args(effects.AnyEffect)
REQUESTS: tuple[type[msgspec.Struct], ...] = get_args(requests.AnyRequest)
REPLIES: tuple[type[msgspec.Struct], ...] = get_args(replies.AnyReply)

SILENT_ORDERS = {
    "ForgetRun",
    "ForgetJob",
    "ForgetAgents",
    "EndLocals",
    "CloseLog",
    "Notify",
    "ReportDrop",
    "CancelTimer",
    "SetTimer",
}
"""Orders after which nothing becomes true that the engine waits for (a timer reports the fact that it was given)."""


def subclasses(module: ModuleType, base: type) -> set[type]:
    return {
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize(
    ("module", "base", "union"),
    [
        (events, events.Event, FACTS),
        (effects, effects.Effect, ORDERS),
        (requests, requests.Request, REQUESTS),
        (replies, replies.Reply, REPLIES),
    ],
    ids=["facts", "orders", "requests", "replies"],
)
def test_a_union_holds_every_class_of_its_kind(
    module: ModuleType, base: type, union: tuple[type, ...]
) -> None:
    assert subclasses(module, base) == set(union)


@pytest.mark.parametrize("union", [FACTS, REQUESTS, REPLIES], ids=["facts", "requests", "replies"])
def test_tags_are_unique(union: tuple[type[msgspec.Struct], ...]) -> None:
    tags = [kind.__struct_config__.tag for kind in union]
    assert len(set(tags)) == len(union)


@pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.__name__)
def test_the_tag_of_a_fact_is_noun_and_past_participle_of_its_name(
    kind: type[msgspec.Struct],
) -> None:
    noun, _, happened = str(kind.__struct_config__.tag).partition(":")
    words = re.findall(r"[A-Z][a-z]+", kind.__name__)
    assert [noun, *happened.split("_")] == [word.lower() for word in words]


@pytest.mark.parametrize("kind", ORDERS, ids=lambda kind: kind.__name__)
def test_an_order_names_the_facts_that_answer_it(kind: type[msgspec.Struct]) -> None:
    _, mark, rest = (kind.__doc__ or "").partition("Answers: ")
    answers = {name.strip() for name in rest.partition(".")[0].split(",")} if mark else set()
    assert answers <= {fact.__name__ for fact in FACTS}
    assert bool(answers) != (kind.__name__ in SILENT_ORDERS)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_a_request_names_its_reply(kind: type[msgspec.Struct]) -> None:
    match = re.search(r"Reply: (\w+)", kind.__doc__ or "")
    assert match, f"{kind.__name__} does not say what answers it"
    assert match[1] in {reply.__name__ for reply in REPLIES}


@pytest.mark.parametrize(
    "kind", [*FACTS, *ORDERS, *REQUESTS, *REPLIES], ids=lambda kind: kind.__name__
)
def test_every_word_is_frozen_and_described(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__dict__.get("__doc__") or kind in REPLIES
