"""Argument specifications, and fitting typed words to them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.errors import Rejected
from oj_daemon.runbook import argspec
from oj_daemon.runbook.model import ArgSpec, Flag, Option, Positional


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ArgSpec()),
        ("  <a>\n [b] ", ArgSpec(positional=(Positional("a"), Positional("b", required=False)))),
        ("<a...>", ArgSpec(variadic=Positional("a"))),
        ("<a>...", ArgSpec(variadic=Positional("a"))),
        ("[a...]", ArgSpec(variadic=Positional("a", required=False))),
        ("[a]...", ArgSpec(variadic=Positional("a", required=False))),
        (
            "<x> [a...]",
            ArgSpec(positional=(Positional("x"),), variadic=Positional("a", required=False)),
        ),
        ("--all", ArgSpec(flags=(Flag("all"),))),
        ("[--all]", ArgSpec(flags=(Flag("all"),))),
        ("-x", ArgSpec(flags=(Flag("x", short="x"),))),
        ("[-a/--all]", ArgSpec(flags=(Flag("all", short="a"),))),
        ("--base <ref>", ArgSpec(options=(Option("base", required=True),))),
        ("[--base <ref>]", ArgSpec(options=(Option("base"),))),
        ("[-b/--base <ref>]", ArgSpec(options=(Option("base", short="b"),))),
        ("-b <ref>", ArgSpec(options=(Option("b", short="b", required=True),))),
        (
            "--base <ref> <a>",
            ArgSpec(positional=(Positional("a"),), options=(Option("base", required=True),)),
        ),
    ],
)
def test_a_specification_is_read(text: str, expected: ArgSpec) -> None:
    assert argspec.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "token", "message"),
    [
        ("name", "name", "invalid argument syntax"),
        ("<a> name", "name", "invalid argument syntax"),
        ("<a", "<a", "is not closed"),
        ("[a", "[a", "is not closed"),
        ("<>", "<>", "does not hold a name"),
        ("<a b>", "<a b>", "does not hold a name"),
        ("<5>", "<5>", "does not hold a name"),
        ("-a/--b/--c", "-a/--b/--c", "too many parts"),
        ("-ab/--all", "-ab/--all", "short form `-ab`"),
        ("-a/-b", "-a/-b", "long form `-b`"),
        ("-a/all", "-a/all", "long form `all`"),
        ("--", "--", "long form `--`"),
        ("-", "-", "short form `-`"),
        ("--all...", "--all...", "no ellipsis"),
        ("[--all]...", "[--all]...", "no ellipsis"),
        ("--base <ref...>", "--base <ref...>", "no ellipsis"),
        ("<--all>", "<--all>", "no ellipsis or brackets"),
        ("<a...> <b>", "<b>", "variadic must be last"),
        ("<a...> [b...]", "[b...]", "variadic must be last"),
        ("[a] <b>", "<b>", "optional positional `a` cannot precede required `b`"),
        ("[a] <b...>", "<b...>", "optional positional `a` cannot precede required `b`"),
        ("<a> <a>", "<a>", "duplicate argument name `a`"),
        ("<a> --a", "--a", "duplicate argument name `a`"),
        ("[-x/--one] [-x/--two]", "[-x/--two]", "duplicate argument name `x`"),
    ],
)
def test_a_wrong_specification_says_what_and_where(text: str, token: str, message: str) -> None:
    with pytest.raises(argspec.SpecError) as caught:
        argspec.parse(text)
    assert message in str(caught.value)
    assert text[caught.value.start : caught.value.end] == token
    assert caught.value.start == text.rindex(token)


SPEC = argspec.parse("<name> [base] [rest...] [-o/--out <file>] [-v/--verbose] [-q]")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["x"], {"name": "x"}),
        (["x", "y"], {"name": "x", "base": "y"}),
        (["x", "y", "1", "2"], {"name": "x", "base": "y", "rest": "1 2"}),
        (["--out", "f", "x"], {"name": "x", "out": "f"}),
        (["--out=f=g", "x"], {"name": "x", "out": "f=g"}),
        (["--out=", "x"], {"name": "x", "out": ""}),
        (["-o", "-v", "x"], {"name": "x", "out": "-v"}),
        (["x", "-v", "-q"], {"name": "x", "verbose": "true", "q": "true"}),
        (["x", "--", "--out", "-v"], {"name": "x", "base": "--out", "rest": "-v"}),
        (["--", "-v"], {"name": "-v"}),
        (["-5"], {"name": "-5"}),
        (["-"], {"name": "-"}),
        ([""], {"name": ""}),
        (["x", "--out", "a", "--out", "b"], {"name": "x", "out": "b"}),
    ],
)
def test_words_are_bound(words: list[str], expected: dict[str, str]) -> None:
    assert argspec.bind(SPEC, {}, words, "build") == expected


def test_what_is_given_lies_over_the_defaults() -> None:
    defaults = {"base": "main", "out": "log", "other": "kept"}
    assert argspec.bind(SPEC, defaults, ["x", "--out", "y"], "build") == {
        "name": "x",
        "base": "main",
        "out": "y",
        "other": "kept",
    }


@pytest.mark.parametrize("text", ["<a>", "--a <x>", "<a...>"])
def test_a_default_satisfies_what_is_required(text: str) -> None:
    assert argspec.bind(argspec.parse(text), {"a": "1"}, [], "c") == {"a": "1"}


@pytest.mark.parametrize(
    ("text", "words", "message", "hint"),
    [
        ("<a>", [], "missing required argument <a>", "usage: oj run c <a>"),
        ("<a...>", [], "missing required argument <a...>", "usage: oj run c <a...>"),
        ("--a <x>", [], "missing required option --a", "usage: oj run c --a <a>"),
        ("<a> --b <x>", [], "missing required argument <a>", ""),
        ("--b <x> <a...>", [], "missing required option --b", ""),
        ("[a]", ["1", "2"], "unexpected positional argument `2`", "usage: oj run c [a]"),
        ("", ["1"], "unexpected positional argument `1`", "usage: oj run c"),
        ("[--base <x>]", ["--bsae", "1"], "unknown option `--bsae`", "did you mean `--base`?"),
        ("[--base <x>]", ["--bsae=1"], "unknown option `--bsae`", "did you mean `--base`?"),
        ("[-v]", ["-vx"], "unknown option `-vx`", ""),
        ("[--base <x>]", ["--base"], "option `--base` of `c` needs a value", ""),
        ("[--all]", ["--all=yes"], "flag `--all` of `c` takes no value", ""),
        ("<a>", ["--zzz"], "unknown option `--zzz`", "after `--` every word is an argument"),
    ],
)
def test_words_that_do_not_fit_are_rejected(
    text: str, words: list[str], message: str, hint: str
) -> None:
    with pytest.raises(Rejected) as caught:
        argspec.bind(argspec.parse(text), {}, words, "c")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_usage_line_lists_positionals_variadic_options_and_flags() -> None:
    spec = argspec.parse("[--all] <a> --need <x> [-o/--out <f>] [b] [rest...] -q")
    assert argspec.usage(spec) == "<a> [b] [rest...] --need <need> [--out <out>] [--all] [-q]"


@given(st.text(st.characters(codec="ascii"), max_size=30) | st.text("<>[]-. /abc", max_size=20))
def test_any_text_is_a_specification_or_an_error_and_usage_lines_are_read_back(text: str) -> None:
    found = specification(text)
    if isinstance(found, argspec.SpecError):
        assert 0 <= found.start < found.end <= len(text)
    else:
        assert argspec.names(argspec.parse(argspec.usage(found))) == argspec.names(found)


def specification(text: str) -> ArgSpec | argspec.SpecError:
    try:
        return argspec.parse(text)
    except argspec.SpecError as exc:
        return exc


@given(
    st.lists(
        st.text(max_size=6) | st.sampled_from(["-o", "--out", "--out=1", "-v", "--", "-x"]),
        max_size=6,
    )
)
def test_any_words_are_bound_or_rejected(words: list[str]) -> None:
    with contextlib.suppress(Rejected):
        assert argspec.bind(SPEC, {}, words, "c")["name"] in words
