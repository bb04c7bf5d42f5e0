"""What runbooks say, block by block, in all three formats. What they must not say is in test_broken.py."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oj_daemon.errors import RunbookError
from oj_daemon.runbook import load, model
from oj_daemon.runbook.model import (
    ActionDef,
    AgentAction,
    Container,
    Notify,
    QueueKind,
    Retry,
    RunAgent,
    Runbook,
    RunJob,
    RunShell,
    SourceKind,
)

GOOD = Path(__file__).parents[2] / "data" / "runbooks" / "good"
FILES = sorted(path.name for path in GOOD.iterdir())


def text_of(name: str) -> str:
    return (GOOD / name).read_text(encoding="utf-8")


def good(name: str) -> Runbook:
    return load.runbook(f".oj/runbooks/{name}", text_of(name))


def hcl(text: str) -> Runbook:
    return load.runbook(".oj/runbooks/x.hcl", text)


def shell_text(run: object) -> str:
    assert isinstance(run, RunShell)
    return run.shell.text


@pytest.mark.parametrize("name", FILES)
def test_a_good_file_is_accepted_and_survives_the_log(name: str) -> None:
    found = good(name)
    data = model.encode(found)
    assert model.encode(msgspec.json.decode(data, type=Runbook)) == data
    assert b'"script":""' not in data


# Commands


def test_a_command_with_arguments_that_starts_a_job() -> None:
    command = good("release.hcl").commands["release"]
    assert command.run == RunJob(job="release")
    assert [each.name for each in command.args.positional] == ["version"]
    assert [each.name for each in command.args.options] == ["base"]
    assert [(each.name, each.short) for each in command.args.flags] == [("dry-run", "n")]
    assert command.defaults == {"base": "main", "dry-run": "false"}


def test_comments_are_help() -> None:
    found = good("release.hcl")
    command = found.commands["release"]
    assert command.help_short == "Cut a release\nBuilds and tests side by side, then tags"
    assert (
        command.help_long
        == "The tag is pushed only when wheel, tests and documentation are all fine."
    )
    assert found.commands["versions"].help_short == ""
    assert found.help_short == "Release\nBuild, test and tag a release on a branch of its own."
    assert found.help_long.startswith("Usage:\n  oj run release 1.4.0\n")


def test_a_command_that_starts_an_agent_may_attach() -> None:
    commands = good("agents.hcl").commands
    assert commands["talk"].run == RunAgent(agent="coder", attach=True)
    assert commands["quick"].run == RunAgent(agent="other", attach=False)


def test_arguments_may_be_written_as_an_object() -> None:
    spec = good("work.toml").commands["add"].args
    assert (spec.positional, spec.options, spec.flags) == (
        (model.Positional("title"),),
        (model.Option("priority", short="p"),),
        (model.Flag("now"),),
    )


# Jobs


def test_a_job_with_everything() -> None:
    job = good("release.hcl").jobs["release"]
    assert job.title == "release ${var.version}"
    assert job.vars == ("version", "base", "dry-run")
    assert job.defaults == {"dry-run": "false"}
    assert job.source is not None
    assert (job.source.kind, job.source.branch) == (
        SourceKind.GIT,
        "release/${var.version}-${source.nonce}",
    )
    assert job.source.ref is not None
    assert job.source.ref.shell is not None
    assert job.notify == Notify(
        on_start="releasing ${local.summary}",
        on_done="released ${var.version}",
        on_fail="release ${var.version} failed: ${error}",
    )
    assert (job.on_done, job.on_fail, job.on_cancel) == ((), "report", "report")
    assert [step.name for step in job.steps] == [
        "prepare",
        "wheel",
        "tests",
        "docs",
        "tag",
        "report",
    ]
    prepare, wheel, tests, docs, tag, _ = job.steps
    assert prepare.on_done == ("wheel", "tests", "docs")
    assert wheel.timeout_ms == 600_000
    assert tests.timeout_ms == 5_400_000
    assert tests.retry == Retry(attempts=1, backoff_ms=30_000)
    assert tests.env["CACHE"] == "${XDG_CACHE_HOME:-/var/tmp}/release"
    assert docs.cwd == "${workspace}"
    assert tag.after == ("wheel", "tests", "docs")


def test_locals_are_kept_in_the_order_in_which_they_can_be_computed() -> None:
    job = good("release.hcl").jobs["release"]
    assert list(job.locals) == ["short", "repo", "summary"]
    assert job.locals["summary"].shell is None
    assert job.locals["short"].shell is not None


def test_locals_that_do_not_need_each_other_keep_their_order() -> None:
    names = ["z", "a", "m", "b"]
    body = "\n".join(f'    {name} = "x"' for name in names)
    job = hcl(f'job "j" {{\n  locals {{\n{body}\n  }}\n  step "s" {{ run = "true" }}\n}}\n').jobs[
        "j"
    ]
    assert list(job.locals) == names


@pytest.mark.parametrize("name", ["strings", "objects"])
def test_fan_out_may_be_written_in_several_ways(name: str) -> None:
    steps = {step.name: step for step in good("fan.hcl").jobs[name].steps}
    assert steps["a"].on_done == ("b", "c")
    assert steps["d"].after == (("b", "c") if name == "strings" else ("b2", "c"))


def test_a_job_may_fan_out_when_it_is_done_and_loop() -> None:
    jobs = good("fan.hcl").jobs
    assert jobs["job-level"].on_done == ("b", "c")
    assert jobs["job-level"].on_fail == "d"
    assert jobs["loop"].steps[0].on_fail == "repair"


def test_an_unreachable_step_is_a_warning() -> None:
    linked = load.load_text(
        "x.hcl", 'job "j" {\n  step "a" { run = "true" }\n  step "b" { run = "true" }\n}\n'
    )
    assert linked.errors == []
    (warning,) = linked.problems
    assert warning.render() == (
        "x.hcl:3:8: warning: step is unreachable: job.j.step[1](b)\n"
        '   3 |   step "b" { run = "true" }\n'
        "     |        ^^^\n"
        '     = hint: let a transition lead to it, or give it after = ["step"]'
    )


def test_a_step_that_waits_for_an_unreachable_step_is_unreachable_too() -> None:
    text = """job "j" {
  step "a" { run = "true" }
  step "b" { run = "true" }
  step "c" {
    run   = "true"
    after = ["a", "b"]
  }
}
"""
    assert [each.line for each in load.load_text("x.hcl", text).problems] == [3, 4]


def test_without_declared_variables_any_name_may_have_a_value() -> None:
    job = hcl(
        'job "j" {\n  name = "${title}"\n  step "s" { run = "echo ${var.anything.at.all}" }\n}\n'
    ).jobs["j"]
    assert job.title == "${title}"


def test_fields_of_a_declared_variable_are_known() -> None:
    hcl('job "j" {\n  vars = ["bug"]\n  step "s" { run = "echo ${var.bug.title}" }\n}\n')


# Agents


def test_an_agent_with_everything() -> None:
    agent = good("agents.hcl").agents["coder"]
    assert agent.driver == "claude"
    assert agent.prompt == (
        "${var.task}\n\nThe job is ${name} (${job_id:-no job}); work in ${workspace}. Write $${literally} this.\n"
    )
    assert (agent.max_concurrency, agent.cwd, agent.env) == (
        2,
        "${workspace}",
        {"TASK": "${var.task:0:72}"},
    )
    assert set(agent.prime) == {"startup", "resume"}
    assert agent.prime["startup"].text == "git status --short\ngit log --oneline -5"
    gate = agent.on_idle
    assert gate is not None
    assert gate.run is not None
    assert (gate.action, gate.run.text, gate.attempts, gate.cooldown_ms) == (
        AgentAction.GATE,
        "make check",
        None,
        30_000,
    )
    assert agent.on_dead == ActionDef(
        action=AgentAction.RESUME, message="Carry on with ${var.task}", append=True, attempts=3
    )
    assert agent.on_prompt == ActionDef(
        action=AgentAction.ESCALATE, timeout_ms=14_400_000, default="deny"
    )
    assert [(each.match, each.action, each.attempts) for each in agent.on_error] == [
        ("unauthorized", "escalate", 1),
        ("rate_limited", "resume", None),
        ("no_internet", "gate", 1),
        (None, "fail", 1),
    ]
    assert agent.notify == Notify(
        on_start="${agent} started", on_fail="${agent} in ${step}: ${error}"
    )
    assert agent.container == Container(
        image="registry.example.org/agent:1",
        cpu="2",
        memory="4Gi",
        requests={"cpu": "500m"},
        limits={"memory": "8Gi"},
        pod={
            "nodeSelector": {"pool": "agents"},
            "tolerations": [{"key": "agents", "operator": "Exists"}],
            "priority": 5,
        },
    )


def test_another_program_needs_the_generic_driver() -> None:
    agent = good("agents.hcl").agents["other"]
    assert (agent.driver, agent.prompt_file) == ("generic", "prompts/other.md")
    assert agent.on_idle == ActionDef(action=AgentAction.NUDGE)
    assert agent.container == Container(image="registry.example.org/other")


def test_what_an_agent_does_not_say() -> None:
    agent = good("agents.hcl").agents["placed"]
    assert list(agent.prime) == [""]
    escalate = ActionDef(action=AgentAction.ESCALATE)
    assert (agent.on_idle, agent.on_dead, agent.on_prompt, agent.on_error) == (
        None,
        escalate,
        escalate,
        (escalate,),
    )
    assert agent.max_concurrency is None


# Queues, workers, crons


def test_queues_and_workers() -> None:
    found = good("work.toml")
    tickets, mail = found.queues["tickets"], found.queues["mail"]
    assert (tickets.kind, tickets.vars, tickets.defaults) == (
        QueueKind.PERSISTED,
        ("title", "priority"),
        {"priority": "1"},
    )
    assert tickets.retry == Retry(attempts=2, backoff_ms=60_000)
    assert mail.take is not None
    assert (mail.kind, mail.poll_ms, mail.take.text) == (
        QueueKind.EXTERNAL,
        30_000,
        "mail-queue take '${item.id}'\n",
    )
    assert found.workers["tickets"] == model.WorkerDef(
        "tickets", queue="tickets", job="ticket", concurrency=3
    )
    assert found.workers["mail"].concurrency == 1


def test_crons() -> None:
    crons = good("work.toml").crons
    nightly, ping = crons["nightly"], crons["ping"]
    assert nightly.run == RunJob(job="clean")
    assert (
        nightly.schedule,
        nightly.timezone,
        nightly.overlap,
        nightly.catch_up,
        nightly.interval_ms,
    ) == (
        "30 2 * * mon-fri",
        "Europe/Berlin",
        "queue",
        "one",
        None,
    )
    assert (ping.interval_ms, ping.schedule, ping.timezone, ping.concurrency) == (
        900_000,
        None,
        "UTC",
        2,
    )
    assert shell_text(ping.run).startswith("curl")


def test_a_number_is_a_duration_in_seconds() -> None:
    steps = {step.name: step for step in good("work.toml").jobs["ticket"].steps}
    assert steps["right"].timeout_ms == 90_000


# Formats


def test_json_steps_may_be_keyed_by_name() -> None:
    job = good("hello.json").jobs["greet"]
    assert [(step.name, step.on_done) for step in job.steps] == [("one", ("two",)), ("two", ())]


def test_toml_and_json_mean_the_same() -> None:
    data = tomllib.loads(text_of("work.toml"))
    same = load.runbook("x.json", json.dumps(data))
    assert msgspec.structs.replace(same, path="") == msgspec.structs.replace(
        good("work.toml"), path=""
    )


def test_hcl_means_the_same_as_json() -> None:
    text = text_of("hello.json")
    body = json.loads(text)
    lines = [
        f'command "{name}" {{\n{_attributes(each)}}}\n' for name, each in body["command"].items()
    ]
    for name, job in body["jobs"].items():
        steps = "".join(
            f'step "{key}" {{\n{_attributes(step)}}}\n' for key, step in job["steps"].items()
        )
        lines.append(f'job "{name}" {{\n{steps}}}\n')
    assert msgspec.structs.replace(hcl("".join(lines)), path="") == msgspec.structs.replace(
        good("hello.json"), path=""
    )


def _attributes(body: dict[str, Any]) -> str:
    return "".join(f"  {key} = {json.dumps(value)}\n" for key, value in body.items())


@pytest.mark.parametrize("path", ["x.hcl", "x.toml"])
def test_windows_line_ends_do_not_reach_the_shell(path: str) -> None:
    text = 'command "a" {\r\n  run = <<-T\r\n    echo one\r\n    echo two\r\n  T\r\n}\r\n'
    if path.endswith(".toml"):
        text = '[command.a]\r\nrun = """\r\necho one\r\necho two\r\n"""\r\n'
    assert shell_text(load.runbook(path, text).commands["a"].run) == "echo one\necho two\n"


# Many problems


def test_only_the_first_hundred_errors_are_told() -> None:
    text = 'job "j" {\n' + "".join(f"  key{number} = 1\n" for number in range(5000)) + "}\n"
    found = load.load_text("x.hcl", text).errors
    assert len(found) == 100
    assert [each.line for each in found[:3]] == [2, 3, 4]


def test_warnings_never_crowd_out_an_error() -> None:
    steps = "".join(f'  step "s{number}" {{ run = "true" }}\n' for number in range(300))
    text = f'job "j" {{\n{steps}}}\ncommand "c" {{\n  run = {{ job = "k" }}\n}}\n'
    linked = load.load_text("x.hcl", text)
    assert [each.message for each in linked.errors] == ["command.c.run references unknown job `k`"]
    assert len(linked.problems) == 101


def test_a_job_has_a_limit_of_steps_and_locals() -> None:
    steps = "".join(f'  step "s{number}" {{ run = "true" }}\n' for number in range(1001))
    (found,) = load.load_text("x.hcl", f'job "j" {{\n{steps}}}\n').errors
    assert (found.line, found.message) == (1002, "job.j has more than 1000 steps")
    values = "".join(f'    l{number} = "x"\n' for number in range(1001))
    (found,) = load.load_text(
        "x.hcl", f'job "j" {{\n  locals {{\n{values}  }}\n  step "s" {{ run = "true" }}\n}}\n'
    ).errors
    assert (found.line, found.message) == (1003, "job.j has more than 1000 locals")


# Whatever the text, the answer is a runbook or a RunbookError


def accept_or_refuse(path: str, text: str) -> None:
    linked = load.load_text(path, text)
    if not linked.errors:
        model.encode(load.runbook(path, text))
        return
    with pytest.raises(RunbookError) as caught:
        load.runbook(path, text)
    assert caught.value.message.startswith((path, "builtin:"))
    for each in linked.errors:
        assert each.line >= 1
        assert each.column >= 1
        assert len(each.excerpt) <= 160


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
suffixes = st.sampled_from(["x.hcl", "x.toml", "x.json"])


@FUZZ
@given(suffixes, st.text(max_size=80))
def test_random_text(path: str, text: str) -> None:
    accept_or_refuse(path, text)


TOKENS = [
    'job "a" ', 'step "b" ', 'command "c" ', 'agent "d" ', 'queue "q" ', 'worker "w" ', 'cron "e" ', 'import "oj/git" ',
    'const "k" ', "{", "}", "[", "]", "\n", "=", ",", "run", "on_done", "after", "vars", '"true"', '"${var.x}"', '"${const.k}"',
    "<<-EOT\n", "EOT\n", "null", "5", '"', "%{ if const.k == \"\" }\n", "%{ endif }\n", "${raw(const.k)}", ": ", "# x\n", "step = ",
]  # fmt: skip


@FUZZ
@given(suffixes, st.lists(st.sampled_from(TOKENS), max_size=30).map("".join))
def test_random_tokens(path: str, text: str) -> None:
    accept_or_refuse(path, text)


@FUZZ
@given(st.data())
def test_damaged_runbooks(data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(["release.hcl", "agents.hcl", "work.toml", "hello.json", "imports.hcl"])
    )
    text = text_of(name)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = (
            text[:start]
            + data.draw(
                st.sampled_from(["", '"', "}", "{", "[", "\n", "${", "x", "=", "'", "\0", "5"])
            )
            + text[end:]
        )
    accept_or_refuse(name, text)


KEYS = [
    "job",
    "step",
    "steps",
    "name",
    "run",
    "on_done",
    "on_fail",
    "after",
    "vars",
    "defaults",
    "agent",
    "command",
    "args",
]
KEYS += [
    "queue",
    "worker",
    "cron",
    "source",
    "locals",
    "notify",
    "retry",
    "env",
    "timeout",
    "prime",
    "on_idle",
    "on_error",
]
KEYS += [
    "action",
    "container",
    "import",
    "const",
    "interval",
    "schedule",
    "attempts",
    "type",
    "list",
    "take",
    "a",
    "",
    "é",
]
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
leaves |= st.sampled_from(
    [
        "",
        "x",
        "true",
        "${var.x}",
        "1h",
        "gate",
        "escalate",
        "${",
        "$(x)",
        "persisted",
        "\ud800",
        "a b",
    ]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=25,
)


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(
            [*KEYS[:1], "agent", "command", "queue", "worker", "cron", "import", "const"]
        ),
        trees,
        max_size=4,
    )
)
def test_random_trees(tree: dict[str, object]) -> None:
    accept_or_refuse("x.json", json.dumps(tree))


@FUZZ
@given(
    st.sampled_from(["job", "agent", "command", "queue", "worker", "cron", "import", "const"]),
    st.dictionaries(st.sampled_from(KEYS), trees, max_size=6),
)
def test_random_definitions(kind: str, body: dict[str, object]) -> None:
    accept_or_refuse("x.json", json.dumps({kind: {"a": body}}))
