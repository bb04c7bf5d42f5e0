"""Merging imports, aliases, constants, and following names from one definition to another."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.runbook import load
from oj_daemon.runbook.model import RunAgent, Runbook, RunJob, RunShell
from oj_daemon.runbook.tree import Problem
from oj_daemon.runbook.validate import Linked

LIBRARY = """\
# Tickets
# Work on tickets.

const "label" {}
const "limit" { default = "5" }
const "mode" { default = "plain" }

# Take a ticket
command "take" {
  run = { job = "ticket" }
}

command "talk" {
  run = { agent = "worker" }
}

queue "tickets" {
  list = "tracker list --label ${const.label} --limit ${const.limit}"
  take = "tracker take ${item.id}"
}

worker "ticket" {
  source = { queue = "tickets" }
  run    = { job = "ticket" }
}

cron "sweep" {
  interval = "1h"
  run      = { job = "ticket" }
}

job "ticket" {
  name = "ticket-${const.label}"
  locals {
    label = "${const.label}"
  }
%{ if const.mode == "agent" }
  step "work" {
    run = { agent = "worker" }
  }
%{ else }
  step "work" {
    run = "echo ${const.label} ${local.label}"
  }
%{ endif }
}

agent "worker" {
  run    = "claude"
  prompt = "Work on ${const.label}: ${raw(const.label)}"
}
"""


def link(text: str, library: str = LIBRARY, **more: str) -> Linked:
    files = {".oj/libraries/team/tickets/tickets.hcl": library, **more}
    return load.load_text(".oj/runbooks/x.hcl", text, files)


def runbook(text: str, library: str = LIBRARY, **more: str) -> Runbook:
    linked = link(text, library, **more)
    assert [each.render() for each in linked.errors] == []
    return linked.runbook


def errors(text: str, library: str = LIBRARY, **more: str) -> list[Problem]:
    return link(text, library, **more).errors


def messages(problems: list[Problem]) -> list[tuple[str, int, str]]:
    return [(each.path, each.line, each.message) for each in problems]


IMPORT = 'import "team/tickets" {\n  const "label" { value = "ready" }\n}\n'
ALIASED = IMPORT.replace("{\n", '{\n  alias = "t"\n', 1)


def test_an_import_brings_everything_a_library_defines() -> None:
    found = runbook(IMPORT)
    assert found.imports == ("team/tickets",)
    assert set(found.commands) == {"take", "talk"}
    assert found.workers["ticket"].queue == "tickets"
    assert found.jobs["ticket"].title == "ticket-ready"
    assert found.agents["worker"].prompt == "Work on ready: ready"


def test_an_alias_is_put_before_every_name_and_every_reference() -> None:
    found = runbook(ALIASED)
    assert set(found.commands) == {"t:take", "t:talk"}
    assert found.commands["t:take"].name == "t:take"
    assert found.commands["t:take"].run == RunJob(job="t:ticket")
    assert found.commands["t:talk"].run == RunAgent(agent="t:worker")
    assert (found.workers["t:ticket"].queue, found.workers["t:ticket"].job) == (
        "t:tickets",
        "t:ticket",
    )
    assert found.crons["t:sweep"].run == RunJob(job="t:ticket")


def test_an_alias_reaches_the_agents_of_steps() -> None:
    text = ALIASED.replace("}\n", '}\n  const "mode" { value = "agent" }\n', 1)
    (step,) = runbook(text).jobs["t:ticket"].steps
    assert step.run == RunAgent(agent="t:worker")


def test_the_file_may_use_what_it_imports() -> None:
    found = runbook(ALIASED + 'command "go" {\n  run = { job = "t:ticket" }\n}\n')
    assert found.commands["go"].run == RunJob(job="t:ticket")


def test_help_of_an_imported_command_comes_from_its_library() -> None:
    found = runbook("# My runbook\n\n" + ALIASED)
    assert found.help_short == "My runbook"
    assert found.commands["t:take"].help_short == "Take a ticket"
    assert found.commands["t:talk"].help_short == "Tickets\nWork on tickets."


# Constants


def test_constants_reach_shell_text_quoted_and_plain_text_as_they_are() -> None:
    value = 'a \\"b\\" $HOME `x` \\\\'
    found = runbook(
        IMPORT.replace("ready", value).replace("raw", ""),
        LIBRARY.replace(": ${raw(const.label)}", ""),
    )
    assert found.jobs["ticket"].title == 'ticket-a "b" $HOME `x` \\'
    queue = found.queues["tickets"].list
    assert queue is not None
    assert queue.text == 'tracker list --label a \\"b\\" \\$HOME \\`x\\` \\\\ --limit 5'


def test_a_constant_is_no_template() -> None:
    library = 'const "c" {}\njob "j" {\n  name = "a ${const.c}"\n  step "s" { run = "true" }\n}\n'
    found = runbook('import "team/tickets" {\n  const "c" { value = "${var.x} $y" }\n}\n', library)
    assert found.jobs["j"].title == "a $${var.x} $y"


def test_a_placeholder_in_a_constant_of_shell_text_needs_raw() -> None:
    library = 'const "c" {}\njob "j" {\n  step "s" { run = "echo ${const.c}" }\n}\n'
    text = 'import "team/tickets" {\n  const "c" { value = "${var.x}" }\n}\n'
    (found,) = errors(text, library)
    assert (
        found.message == "the value of const `c` holds a placeholder, which would be read as text"
    )
    assert found.hint == "write ${raw(const.c)}"
    raw = runbook(text, library.replace("${const.c}", "${raw(const.c)}"))
    run = raw.jobs["j"].steps[0].run
    assert isinstance(run, RunShell)
    assert run.shell.bindings[0].name == "var.x"


def test_raw_text_of_several_lines_is_indented_like_its_place() -> None:
    library = """const "c" {}
job "j" {
  step "s" {
    run = <<-T
      if true; then
        ${raw(const.c)}
      fi
    T
  }
}
"""
    text = 'import "team/tickets" {\n  const "c" {\n    value = "one\\n  two\\nthree"\n  }\n}\n'
    run = runbook(text, library).jobs["j"].steps[0].run
    assert isinstance(run, RunShell)
    assert run.shell.text == "if true; then\n  one\n    two\n  three\nfi\n"


def test_directives_choose_lines_and_may_be_nested() -> None:
    library = (
        'const "a" { default = "" }\nconst "b" { default = "" }\njob "j" {\n'
        '%{~ if const.a == "1" ~}\n'
        '  %{ if const.b != "2" }\n  step "a1" { run = "true" }\n  %{ else }\n  step "a1b2" { run = "true" }\n  %{ endif }\n'
        '%{ else }\n  step "other" { run = "true" }\n%{ endif }\n}\n'
    )
    for a, b, expected in [("1", "", "a1"), ("1", "2", "a1b2"), ("", "2", "other")]:
        text = f'import "team/tickets" {{\n  const "a" {{ value = "{a}" }}\n  const "b" {{ value = "{b}" }}\n}}\n'
        assert [step.name for step in runbook(text, library).jobs["j"].steps] == [expected]


def test_lines_of_errors_are_those_on_disk_whatever_directives_and_raw_text_did() -> None:
    library = (
        'const "c" { default = "one\\ntwo\\nthree" }\n%{ if const.c == "x" }\ngarbage\n%{ endif }\n'
        'job "j" {\n  step "s" {\n    run = <<-T\n      ${raw(const.c)}\n      echo )\n    T\n    wrong = 1\n  }\n}\n'
    )
    found = errors('import "team/tickets" {}\n', library)
    assert [each.line for each in found] == [9, 11]
    assert found[0].excerpt == "      echo )"


def test_a_lacking_constant_is_an_error_at_the_import() -> None:
    (found,) = errors(
        'import "team/tickets" {\n  alias = "t"\n}\n\ncommand "go" {\n  run = { job = "t:ticket" }\n}\n'
    )
    assert found.render() == (
        '.oj/runbooks/x.hcl:1:8: import "team/tickets" lacks required const `label`\n'
        '   1 | import "team/tickets" {\n'
        "     |        ^^^^^^^^^^^^^^\n"
        '     = hint: add const "label" { value = "..." }'
    )


def test_constants_that_two_files_declare_differently_are_an_error() -> None:
    found = errors(
        'import "team/tickets" {}\n',
        'const "c" { default = "1" }\n',
        **{".oj/libraries/team/tickets/z.hcl": 'const "c" {}\n'},
    )
    assert messages(found) == [
        (
            ".oj/libraries/team/tickets/z.hcl",
            1,
            "conflicting const `c`: .oj/libraries/team/tickets/tickets.hcl declares it otherwise",
        )
    ]


def test_equal_constants_of_two_files_are_one() -> None:
    runbook(
        'import "team/tickets" {}\n',
        'const "c" { default = "1" }\n',
        **{".oj/libraries/team/tickets/z.hcl": 'const "c" { default = "1" }\n'},
    )


# Clashes


def test_a_definition_of_the_file_hides_the_imported_one_with_a_warning() -> None:
    linked = link(IMPORT + 'command "take" {\n  run = "mine"\n}\n')
    assert linked.errors == []
    assert messages(linked.problems) == [
        (
            ".oj/runbooks/x.hcl",
            4,
            'command `take` of import "team/tickets" is hidden by the one in this file',
        )
    ]
    run = linked.runbook.commands["take"].run
    assert isinstance(run, RunShell)
    assert run.shell.text == "mine"


def test_two_imports_that_clash_are_an_error() -> None:
    other = {".oj/libraries/other/other.hcl": 'command "take" {\n  run = "true"\n}\n'}
    found = errors('import "other" {}\n' + IMPORT, **other)
    assert messages(found) == [
        (
            ".oj/runbooks/x.hcl",
            2,
            'command `take` comes from both import "other" and import "team/tickets"',
        )
    ]
    assert found[0].hint == "give one of them an alias"
    assert errors('import "other" {}\n' + ALIASED, **other) == []


def test_files_of_one_library_that_clash_are_an_error() -> None:
    found = errors(
        IMPORT,
        **{".oj/libraries/team/tickets/z.hcl": 'job "ticket" {\n  step "s" { run = "true" }\n}\n'},
    )
    assert messages(found) == [
        (
            ".oj/libraries/team/tickets/z.hcl",
            1,
            "job `ticket` defined in both .oj/libraries/team/tickets/tickets.hcl and .oj/libraries/team/tickets/z.hcl",
        )
    ]


def test_files_of_one_library_may_refer_to_each_other() -> None:
    more = {
        ".oj/libraries/team/tickets/z.hcl": 'command "again" {\n  run = { job = "ticket" }\n}\n'
    }
    assert runbook(ALIASED, **more).commands["t:again"].run == RunJob(job="t:ticket")


# References and other errors of libraries


def test_an_error_in_a_library_is_shown_where_it_is() -> None:
    found = errors(IMPORT, LIBRARY.replace("interval", "intervall"))
    assert messages(found) == [
        (".oj/libraries/team/tickets/tickets.hcl", 27, "missing field `interval` in cron.sweep"),
        (".oj/libraries/team/tickets/tickets.hcl", 28, "unknown key `intervall` in cron.sweep"),
    ]


def test_a_library_cannot_import() -> None:
    found = errors('import "team/tickets" {}\n', 'import "oj/git" {}\n')
    assert messages(found) == [
        (".oj/libraries/team/tickets/tickets.hcl", 1, "a library cannot import another library")
    ]


def test_an_unknown_name_in_a_library_is_an_error_even_with_an_alias() -> None:
    found = errors(ALIASED, LIBRARY.replace('queue = "tickets"', 'queue = "tickest"'))
    assert [(each.line, each.message) for each in found] == [
        (23, "worker.ticket.source.queue references unknown queue `tickest`")
    ]


def test_the_hint_for_an_unknown_name_is_the_nearest_one() -> None:
    (found,) = errors(ALIASED + 'command "go" {\n  run = { job = "t:tiket" }\n}\n')
    assert found.hint == "did you mean `t:ticket`?"


def test_the_hint_for_a_name_without_its_alias_is_the_whole_name() -> None:
    (found,) = errors(ALIASED + 'command "go" {\n  run = { job = "ticket" }\n}\n')
    assert found.hint == "did you mean `t:ticket`?"


def test_a_job_that_a_command_starts_gets_all_its_variables() -> None:
    job = (
        'job "j" {\n  vars = ["a", "b"]\n  defaults = { b = "1" }\n  step "s" { run = "true" }\n}\n'
    )
    assert errors('command "c" {\n  args = "<a>"\n  run = { job = "j" }\n}\n' + job) == []
    assert errors('command "c" {\n  defaults = { a = "1" }\n  run = { job = "j" }\n}\n' + job) == []
    (found,) = errors('command "c" {\n  args = "<b>"\n  run = { job = "j" }\n}\n' + job)
    assert found.message == "command.c starts job `j` but gives no value for `a`"


def test_imports_work_in_toml_and_json() -> None:
    files = {".oj/libraries/team/tickets/tickets.hcl": LIBRARY}
    toml = '[import."team/tickets"]\nalias = "t"\nconst.label.value = "ready"\n'
    json = '{"import": {"team/tickets": {"alias": "t", "const": {"label": "ready"}}}}'
    for path, text in (("x.toml", toml), ("x.json", json)):
        linked = load.load_text(path, text, files)
        assert [each.render() for each in linked.errors] == []
        assert linked.runbook.jobs["t:ticket"].title == "ticket-ready"


# Whatever a library holds, the answer is a runbook or errors


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_libraries(data: st.DataObject) -> None:
    library = LIBRARY
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(library)))
        end = min(len(library), start + data.draw(st.integers(0, 12)))
        piece = data.draw(
            st.sampled_from(
                [
                    "",
                    '"',
                    "}",
                    "{",
                    "\n",
                    "%{ if ",
                    "%{ else }\n",
                    "${raw(const.label)}",
                    "const.",
                    "x",
                ]
            )
        )
        library = library[:start] + piece + library[end:]
    value = data.draw(
        st.sampled_from(["ready", "", "a b", "'", "${var.x}", "\\n}\\n", "$(x)", "}"])
    )
    linked = link(data.draw(st.sampled_from([IMPORT, ALIASED])).replace("ready", value), library)
    for found in linked.problems:
        assert found.render().startswith(found.path)
        assert 1 <= found.line <= max(library.count("\n"), 5) + 1
