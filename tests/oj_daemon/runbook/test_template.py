"""Placeholders in plain templates, and the values of compiled ones."""

from __future__ import annotations

import itertools
import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.runbook.model import Binding, Use
from oj_daemon.runbook.template import (
    MAX_VALUE_BYTES,
    BadValue,
    MissingValue,
    Placeholder,
    env_names,
    malformed,
    placeholders,
    render,
    resolve,
)

VALUES = {
    "var.x": "vé'$b",
    "name": "job",
    "empty": "",
    "var.empty": "",
    "var.a-b": "dash",
    "x.y": "z",
}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("${var.x}", Placeholder(0, 8, "var.x")),
        ("a${name}", Placeholder(1, 8, "name")),
        ("${var.a-b.c_1}", Placeholder(0, 14, "var.a-b.c_1")),
        ("${x:3}", Placeholder(0, 6, "x", offset=3)),
        ("${var.x:0:72}", Placeholder(0, 13, "var.x", offset=0, length=72)),
        ("${var.x:-a b'}", Placeholder(0, 14, "var.x", default="a b'")),
        ("${X:-}", Placeholder(0, 6, "X", default="")),
        ("${var.x:1:2:-d}", Placeholder(0, 15, "var.x", offset=1, length=2, default="d")),
    ],
)
def test_every_form_of_a_placeholder_is_found(text: str, want: Placeholder) -> None:
    assert placeholders(text) == [want]


@pytest.mark.parametrize(
    "text",
    ["$x", "${}", "${1}", "${a.}", "${.a}", "${a b}", "${a-b}", "${a:-${b}", "${a:-1:2", "${var.é}", "$${var.x}", "${x:0:-1}"],
)  # fmt: skip
def test_other_text_is_no_placeholder(text: str) -> None:
    assert [
        found for found in placeholders(text) if found.start == 0 and found.end == len(text)
    ] == []


def test_a_name_of_ours_in_another_form_is_malformed() -> None:
    text = "${var.x//a/b} ${var.x} $${var.y} ${#item.n} ${foo.x:=y} $${var.z//} ${args.}"
    assert malformed(text) == [0, text.index("${#item"), text.index("${args")]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a ${var.x} b", "a vé'$b b"),
        ("${var.x:1} ${var.x:0:2} ${var.x:9} ${var.x:2:0}", "é'$b vé  "),
        ("${name} ${name:0:1} ${name:-d}", "job j job"),
        ("${var.nope:-d} ${var.empty:-d} ${var.empty} ${var.x:1:2:-d}", "d d  é'"),
        ("${var.a-b} ${x.y}", "dash z"),
        ("${SET:-d} ${BLANK:-d} ${UNSET:-d} ${UNSET:-}", "s  d "),
        ("${empty:-d}", "d"),
        ("$${var.x} $${", "${var.x} ${"),
        (
            "${nope} ${foo.x} ${foo.x:-d} $HOME ${var.x",
            "${nope} ${foo.x} ${foo.x:-d} $HOME ${var.x",
        ),
    ],
)
def test_a_plain_template_is_filled(text: str, want: str) -> None:
    assert render(text, VALUES, {"SET": "s", "BLANK": ""}) == want


@pytest.mark.parametrize(
    "space", ["var", "args", "item", "local", "source", "invoke", "step", "const"]
)
def test_a_name_of_ours_without_value_is_an_error(space: str) -> None:
    with pytest.raises(MissingValue, match=rf"\$\{{{space}\.gone\}}") as caught:
        render(f"a ${{{space}.gone:0:3}}", VALUES)
    assert caught.value.name == f"{space}.gone"
    assert caught.value.code == "missing"
    assert caught.value.hint


@given(value=st.text())
def test_values_are_never_filled_in_turn(value: str) -> None:
    hostile = "${var.y}$${" + value
    assert (
        render("${var.x}|${A:-d}", {"var.x": hostile, "var.y": "no"}, {"A": hostile})
        == f"{hostile}|{hostile}"
    )


@given(
    text=st.lists(
        st.one_of(
            st.text(max_size=5),
            st.sampled_from(["${", "}", "$${", ":-", ":", "var.x", "name", ".", "12", "\n"]),
        )
    ).map("".join)
)
def test_any_text_is_filled_or_misses_a_value(text: str) -> None:
    try:
        filled = render(text, VALUES)
    except MissingValue:
        assert any(found.is_ours for found in placeholders(text))
        return
    if "$" not in text:
        assert filled == text
    found = placeholders(text)
    assert [text[one.start : one.start + 2] for one in found] == ["${"] * len(found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


def test_variables_of_the_environment_are_named() -> None:
    assert env_names("${A:-1} ${B} ${var.c:-d} $${E:-} ${F:0:1} ${G:-x}${A:-2}") == {"A", "G"}


def test_resolving_gives_the_environment_of_a_script() -> None:
    bindings = (
        Binding(env="OJ_V0", name="var.x"),
        Binding(env="OJ_V1", name="var.x", offset=1, length=2),
        Binding(env="OJ_V2", name="var.nope", default="$d"),
        Binding(env="OJ_V3", name="var.n", use=Use.INTEGER),
    )
    want = {"OJ_V0": "vé'$b", "OJ_V1": "é'", "OJ_V2": "$d", "OJ_V3": "7"}
    assert resolve(bindings, VALUES | {"var.n": "007"}) == want
    with pytest.raises(MissingValue):
        resolve(bindings, VALUES)


@pytest.mark.parametrize(
    ("value", "passes"),
    [("0", "0"), ("-12", "-12"), ("+08", "8"), (str(2**63 - 1), str(2**63 - 1)), (str(2**63), None), ("", None), ("1 ", None),
     ("1\n", None), ("0x1", None), ("a", None), ("1+1", None), ("a[$(x)]", None), ("٣", None), ("9" * 5000, None)],
)  # fmt: skip
def test_only_integers_of_64_bits_pass_where_bash_calculates(
    value: str, passes: str | None
) -> None:
    bindings = [Binding(env="OJ_V0", name="var.n", use=Use.INTEGER)]
    if passes is not None:
        assert resolve(bindings, {"var.n": value}) == {"OJ_V0": passes}
        return
    with pytest.raises(BadValue, match=r"\$\{var\.n\}"):
        resolve(bindings, {"var.n": value})


def test_values_that_no_environment_can_hold_are_refused() -> None:
    bindings = [Binding(env="OJ_V0", name="var.x")]
    room = MAX_VALUE_BYTES - len("OJ_V0=") - 1
    raw = os.fsdecode(b"\xff\x80")
    assert resolve(bindings, {"var.x": "x" * room}) == {"OJ_V0": "x" * room}
    assert resolve(bindings, {"var.x": raw}) == {"OJ_V0": raw}
    for value, reason in [
        ("a\0b", "NUL"),
        ("\ud800", "Unicode"),
        ("x" * (room + 1), "bytes"),
        ("é" * (room // 2 + 1), "bytes"),
    ]:
        with pytest.raises(BadValue, match=reason) as caught:
            resolve(bindings, {"var.x": value})
        assert "${var.x}" in caught.value.message
        assert caught.value.code == "invalid"


def test_names_are_ascii() -> None:
    assert placeholders("${é.x} ${var.x" + chr(0x0663) + "}") == []
    letters = string.ascii_letters + string.digits + "_"
    assert placeholders(f"${{_{letters}}}")[0].name == f"_{letters}"
