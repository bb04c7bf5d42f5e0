"""TOML and JSON: the standard library says what they mean, the scanners say where it stands."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.runbook import formats
from oj_daemon.runbook.tree import Node, Object, Problem, Source, SyntaxProblem


def read(path: str, text: str) -> Object:
    problems: list[Problem] = []
    found = formats.read(Source(path, text), problems)
    assert problems == []
    return found


def plain(node: Node) -> object:
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    if isinstance(node.value, Object):
        return {entry.key: plain(entry.value) for entry in node.value.entries}
    return node.value


def find(body: Object, *path: str | int) -> Node:
    """The value at a path."""
    node = Node(body, 0, 0)
    for key in path:
        if isinstance(key, int):
            assert isinstance(node.value, list)
            node = node.value[key]
        else:
            assert isinstance(node.value, Object)
            node = next(entry.value for entry in node.value.entries if entry.key == key)
    return node


TOML = '''\
# comment with [brackets] and "quotes"
title = "top" # after
[command.a]
args = { positional = [ { name = "x" }, { name = 'y' } ], "quoted key" = 1 }
"run" = """
one \\
   two MARK1
three \\u00e9 MARK2"""
list = [
  "a", # comment
  [ "b", 'MARK3' ],
  5,
]
[[job.b.step]]
name = "first"
[[job.b.step]]
name = "second"
run.agent = "MARK4"
[[job.b.step.more]]
deep = \'\'\'
raw \\n MARK5\'\'\'
[job."with space".x]
number = -1_000
float = 1e3
flag = true
'''


def test_toml_means_what_the_standard_library_says() -> None:
    assert plain(Node(read("x.toml", TOML), 0, 0)) == tomllib.loads(TOML)


@pytest.mark.parametrize(
    ("path", "mark"),
    [
        (("command", "a", "run"), "MARK1"),
        (("command", "a", "run"), "MARK2"),
        (("command", "a", "list", 1, 1), "MARK3"),
        (("job", "b", "step", 1, "run", "agent"), "MARK4"),
        (("job", "b", "step", 1, "more", 0, "deep"), "MARK5"),
    ],
)
def test_texts_in_toml_know_where_they_stand(path: tuple[str | int, ...], mark: str) -> None:
    node = find(read("x.toml", TOML), *path)
    assert isinstance(node.value, str)
    assert node.at(node.value.index(mark)) == TOML.index(mark)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        (("title",), '"top"'),
        (("command", "a", "args", "positional", 1, "name"), "'y'"),
        (("command", "a", "args", "quoted key"), "1"),
        (("command", "a", "list", 2), "5"),
        (("job", "b", "step", 1, "name"), '"second"'),
        (("job", "with space", "x", "number"), "-1_000"),
        (("job", "with space", "x", "flag"), "true"),
    ],
)
def test_values_in_toml_know_where_they_stand(path: tuple[str | int, ...], written: str) -> None:
    node = find(read("x.toml", TOML), *path)
    assert TOML[node.start : node.end] == written


def test_keys_in_toml_know_where_they_stand() -> None:
    for key, written in (("title", "title"), ("job", "job")):
        entry = next(entry for entry in read("x.toml", TOML).entries if entry.key == key)
        assert TOML[entry.start : entry.end] == written


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**15), 10**15),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), values, max_size=4),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_json_means_what_the_standard_library_says(
    tree: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    found = Node(read("x.json", text), 0, 0)
    assert plain(found) == tree

    def check(node: Node) -> None:
        if isinstance(node.value, Object):
            for entry in node.value.entries:
                assert json.loads(text[entry.start : entry.end]) == entry.key
                check(entry.value)
        elif isinstance(node.value, list):
            for item in node.value:
                check(item)
        else:
            assert json.loads(text[node.start : node.end]) == node.value

    check(found)


def test_texts_in_json_know_where_they_stand() -> None:
    text = '{"a": "\\u00e9\\n\\ud83d\\ude00 \\"x\\" MARK"}'
    node = find(read("x.json", text), "a")
    assert isinstance(node.value, str)
    assert node.at(node.value.index("MARK")) == text.index("MARK")


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": ' + "9" * 5000 + "}"]
)
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SyntaxProblem):
        read("x.json", text)


@pytest.mark.parametrize(
    "text", ["a = nan", "a = inf", "a = 1979-05-27", "a = 07:32:00", "a = " + "9" * 5000]
)
def test_toml_values_that_runbooks_have_no_use_for_are_refused(text: str) -> None:
    with pytest.raises(SyntaxProblem):
        read("x.toml", text)


def test_a_json_file_with_nothing_in_it_is_empty() -> None:
    assert read("x.json", " \n").entries == []
