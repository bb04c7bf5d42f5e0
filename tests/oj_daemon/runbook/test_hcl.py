"""The HCL reader: what it reads, where it says things stand, and python-hcl2 as a second opinion."""

from __future__ import annotations

import json
from pathlib import Path

import hcl2
import pytest
from hcl2 import SerializationOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.runbook import consts, formats
from oj_daemon.runbook.tree import Node, Object, Problem, Source, SyntaxProblem, normalise

ROOT = Path(__file__).parents[3]
GOOD = sorted((ROOT / "tests" / "data" / "runbooks" / "good").rglob("*.hcl"))
LIBRARY = sorted((ROOT / "oj_daemon" / "runbook" / "library").rglob("*.hcl"))
STARTER = sorted((ROOT / "oj_cli").rglob("*.hcl"))

OPTIONS = SerializationOptions(
    strip_string_quotes=True, explicit_blocks=True, with_comments=False, preserve_heredocs=True
)


def read(text: str, path: str = "x.hcl") -> Object:
    problems: list[Problem] = []
    found = formats.read(Source(path, normalise(text)), problems)
    assert problems == []
    return found


def plain(node: Node) -> object:
    """A value without its places."""
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    if isinstance(node.value, Object):
        return {entry.key: plain(entry.value) for entry in node.value.entries}
    return node.value


def value(text: str) -> object:
    """The value of one attribute."""
    return plain(read(f"x = {text}\n").entries[0].value)


def error(text: str) -> Problem:
    with pytest.raises(SyntaxProblem) as caught:
        read(text)
    return caught.value.problem


# What is read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a"', "a"),
        ('""', ""),
        ("5", 5),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("[]", []),
        ('["a", 1,]', ["a", 1]),
        ('[\n  "a", # first\n  "b" // second\n]', ["a", "b"]),
        ("{}", {}),
        ('{ a = 1, "b c" : 2 }', {"a": 1, "b c": 2}),
        ("{\n  a = 1\n  b = 2\n}", {"a": 1, "b": 2}),
        ('{ a = { b = ["c"] } }', {"a": {"b": ["c"]}}),
        (r'"\n\t\r\"\\"', '\n\t\r"\\'),
        (r'"\u00e9\U0001F600"', "é😀"),
        ('"${var.x}"', "${var.x}"),
        ('"${X:-a b}"', "${X:-a b}"),
        ('"${X:-"quoted }"}"', '${X:-"quoted }"}'),
        ('"${a.b:0:72}"', "${a.b:0:72}"),
        ('"$${x} %%{y} 100% $5 { }"', "$${x} %%{y} 100% $5 { }"),
        ('"%{http_code}"', "%{http_code}"),
        ('"# no // comment /* here */"', "# no // comment /* here */"),
        ("<<EOT\n  a\n b\nEOT", "  a\n b\n"),
        ("<<-EOT\n    a\n      b\n\n    c\n  EOT", "a\n  b\n\nc\n"),
        ('<<-EOT\n  ${raw.x} \\n "q" %{ if } $(x)\n  EOT', '${raw.x} \\n "q" %{ if } $(x)\n'),
        ("<<-EOT\n  EOTX\n  EOT", "EOTX\n"),
        ("<<EOT\nEOT", ""),
        ("<<-EOT\n\ta\n\t\tb\n\tEOT", "a\n\tb\n"),
    ],
)
def test_a_value_is_read(text: str, expected: object) -> None:
    assert value(text) == expected
    assert type(value(text)) is type(expected)


def test_blocks_keep_their_labels_and_order() -> None:
    tree = read('job "a" {\n  step "x" {}\n  step y { run = "z" }\n  notify {}\n}\n')
    (job,) = tree.entries
    assert (job.key, job.is_block, [label.value for label in job.labels]) == ("job", True, ["a"])
    assert isinstance(job.value.value, Object)
    assert [
        (entry.key, [label.value for label in entry.labels]) for entry in job.value.value.entries
    ] == [
        ("step", ["x"]),
        ("step", ["y"]),
        ("notify", []),
    ]


def test_comments_are_skipped_everywhere() -> None:
    text = '# a\n// b\n/* c\n d */ x = /* e */ "1" # f\n/**/ y /* g */ "l" /* h */ { // i\n}\n'
    assert [entry.key for entry in read(text).entries] == ["x", "y"]


def test_an_object_may_go_on_after_a_heredoc() -> None:
    assert value('{\n  a = <<-T\n    x\n  T\n  b = "y"\n}') == {"a": "x\n", "b": "y"}
    assert value('[<<-T\n    x\n  T\n, "y"]') == ["x\n", "y"]


def test_byte_order_mark_and_windows_line_ends_make_no_difference() -> None:
    text = 'a = <<-T\n  x\n  y\n  T\nb = "z"\n'
    windows = "\ufeff" + text.replace("\n", "\r\n")
    assert [plain(entry.value) for entry in read(windows).entries] == ["x\ny\n", "z"]


def test_an_empty_file_is_an_empty_tree() -> None:
    for text in ("", "\n\n", "# only a comment", "\ufeff"):
        assert read(text).entries == []


# Places


def test_places_of_keys_labels_and_values() -> None:
    text = 'job "a" {\n  vars = ["x", "yy"]\n  defaults = { k = "v" }\n}\n'
    job = read(text).entries[0]
    assert text[job.start : job.end] == "job"
    assert text[job.labels[0].start : job.labels[0].end] == '"a"'
    assert isinstance(job.value.value, Object)
    names, defaults = job.value.value.entries
    assert text[names.start : names.end] == "vars"
    assert isinstance(names.value.value, list)
    assert [text[item.start : item.end] for item in names.value.value] == ['"x"', '"yy"']
    assert isinstance(defaults.value.value, Object)
    key = defaults.value.value.entries[0]
    assert text[key.start : key.end] == "k"
    assert text[key.value.start : key.value.end] == '"v"'


@pytest.mark.parametrize(
    "text",
    [
        'x = "a\\nb MARK c"\n',
        'x = "${var.a} \\u00e9 \\"q\\" MARK"\n',
        "x = <<-T\n      one\n\n        two MARK\n    T\n",
        "x = <<T\n  one\n\ttwo MARK\nT\n",
        "x = <<-T\n  a\n      MARK\n   b\n  T\n",
    ],
)
def test_every_character_of_a_text_knows_where_it_stands(text: str) -> None:
    node = read(text).entries[0].value
    assert isinstance(node.value, str)
    assert node.at(node.value.index("MARK")) == text.index("MARK")


# Errors


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("x = ", 1, 5, "expected a value after `x =`, found end of file"),
        ("x = @", 1, 5, "expected a value after `x =`, found `@`"),
        ("x", 1, 2, "expected `=` or `{` after `x`, found end of file"),
        ("x y z", 1, 6, "expected `=` or `{` after `x`, found end of file"),
        ("= 1", 1, 1, "expected an attribute or block name, found `=`"),
        ('x "a" {\n\n', 1, 7, "missing `}` for the block opened here"),
        ("x = {\n  a = 1\n", 1, 5, "missing `}` for the object opened here"),
        ("x = [1\n", 1, 5, "missing `]` for the list opened here"),
        ('x = "a', 1, 5, "string is not closed before the end of the line"),
        ('x = "${a', 1, 6, "`${` is never closed"),
        ('x = "a\\q"', 1, 7, "unknown escape `\\q`"),
        ('x = "\\ud8"', 1, 6, "unknown escape `\\u`"),
        ('x = "\\UFFFFFFFF"', 1, 6, "unknown escape `\\U`"),
        ("a {\n}\n}\n", 3, 1, "unexpected `}`"),
        ("x = <<E\nabc\n", 1, 5, "heredoc <<E is never closed"),
        ("x = 00", 1, 5, "`00` is not a value"),
        ("x = 1.", 1, 5, "`1.` is not a value"),
        ("x = " + "9" * 30, 1, 5, "number is too long"),
        ("x = 1e999", 1, 5, "number is too large"),
        ("x = { 5 = 1 }", 1, 7, "expected a key, found `5`"),
        ("x = { a }", 1, 9, "expected `=` after key `a`, found `}`"),
        ("/* a", 1, 1, "comment is never closed"),
        ("x = 1 /* a", 1, 7, "comment is never closed"),
    ],
)
def test_a_syntax_error_says_where_and_what(
    text: str, line: int, column: int, message: str
) -> None:
    found = error(text)
    assert (found.line, found.column, found.message) == (line, column, message)


def test_an_error_is_shown_with_its_line_a_caret_and_a_hint() -> None:
    assert error('command "a" {\n\trun = foo\n}\n').render() == (
        "x.hcl:2:8: `foo` is not a value\n"
        "   2 | \trun = foo\n"
        "     | \t      ^^^\n"
        '     = hint: texts are quoted: "foo"'
    )


def test_a_long_line_is_cut_around_the_error() -> None:
    found = error(f'x = "{"a" * 5000}\\q{"b" * 5000}"')
    assert found.column == 5006
    assert len(found.excerpt) <= 160
    assert found.excerpt[found.caret - 1 : found.caret + 1] == "\\q"


@pytest.mark.parametrize("opening", ["[", "{a=", "a {\n"])
def test_deep_nesting_is_an_error_and_no_crash(opening: str) -> None:
    prefix = "" if opening.startswith("a") else "x = "
    assert error(prefix + opening * 100_000).message == "nested more than 40 levels deep"


# A second opinion


def oracle(text: str) -> object:
    return _without_marks(hcl2.loads(text, serialization_options=OPTIONS))


def _without_marks(found: object) -> object:
    if isinstance(found, dict):
        return {key: _without_marks(each) for key, each in found.items() if key != "__is_block__"}
    if isinstance(found, list):
        return [_without_marks(each) for each in found]
    if isinstance(found, str) and found.startswith("<<"):
        head, _, rest = found.partition("\n")
        body = rest[: rest.rindex("\n") + 1]
        if not head.startswith("<<-"):
            return body
        indent = min(
            (len(line) - len(line.lstrip()) for line in body.split("\n") if line.strip()), default=0
        )
        return "\n".join(
            line[min(indent, len(line) - len(line.lstrip())) :] for line in body.split("\n")
        )
    return found


def ours(body: Object) -> dict[str, object]:
    """Our tree in the shape of python-hcl2's."""
    found: dict[str, object] = {}
    for entry in body.entries:
        if not entry.is_block:
            found[entry.key] = (
                ours(entry.value.value)
                if isinstance(entry.value.value, Object)
                else _ours(entry.value)
            )
            continue
        assert isinstance(entry.value.value, Object)
        inner = ours(entry.value.value)
        for label in reversed(entry.labels):
            inner = {str(label.value): inner}
        blocks = found.setdefault(entry.key, [])
        assert isinstance(blocks, list)
        blocks.append(inner)
    return found


def _ours(node: Node) -> object:
    if isinstance(node.value, Object):
        return ours(node.value)
    if isinstance(node.value, list):
        return [_ours(item) for item in node.value]
    return node.value


def expanded(path: Path) -> str:
    """The text of a file after its directives, with constants that have no default named after themselves."""
    text = normalise(path.read_text(encoding="utf-8"))
    declared, _ = consts.declared(Source(path.name, text))
    values = {name: const.default or name for name, const in declared.items()}
    return consts.prepare(path.name, text, values).text


def oracle_can_read(text: str) -> bool:
    try:
        oracle(text)
    except Exception:  # noqa: BLE001 - whatever lark and python-hcl2 raise
        return False
    return True


@pytest.mark.parametrize("path", [*GOOD, *LIBRARY, *STARTER], ids=lambda path: path.name)
def test_python_hcl2_reads_the_same_where_it_can(path: Path) -> None:
    text = expanded(path)
    if not oracle_can_read(text):
        assert ":-" in text or "${" in text  # our templates are not always HCL expressions
        pytest.skip("holds templates that are not HCL expressions")
    assert ours(read(text)) == oracle(text)


def test_python_hcl2_can_read_most_files() -> None:
    files = [*GOOD, *LIBRARY, *STARTER]
    assert sum(oracle_can_read(expanded(path)) for path in files) >= len(files) * 0.6


names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name not in {"true", "false", "null", "in", "for", "if", "else", "endif", "endfor"}
)
texts = st.text(
    st.characters(codec="ascii", min_codepoint=32, max_codepoint=126, exclude_characters='$%"\\'),
    max_size=12,
)
scalars = st.one_of(texts, st.integers(-999, 999), st.booleans())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(names, values, max_size=3), st.lists(st.tuples(names, texts), max_size=2))
def test_what_is_written_as_hcl_is_read_back(
    attributes: dict[str, object], blocks: list[tuple[str, str]]
) -> None:
    lines = [f"a_{key} = {json.dumps(each)}" for key, each in attributes.items()]
    lines += [
        f"b_{key} {json.dumps(label)} {{\n  x = {json.dumps(label)}\n}}" for key, label in blocks
    ]
    text = "\n".join(lines) + "\n"
    assert ours(read(text)) == oracle(text)
    for entry, (key, each) in zip(read(text).entries, attributes.items(), strict=False):
        assert (entry.key, plain(entry.value)) == (f"a_{key}", each)
