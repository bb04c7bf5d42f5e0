"""Jobs: how they run, how they are listed and shown, how they are found by id, and how they are forgotten."""

from __future__ import annotations

import pytest

from tests.support.world import World, ran


def ids(world: World, *words: str) -> list[str]:
    return [job["id"] for job in world.oj("job", "list", "-o", "json", *words).json]


def rows(world: World, *words: str) -> list[list[str]]:
    """The lines of `oj job list` below its header, as words."""
    return [line.split() for line in world.oj("job", "list", *words).out.splitlines()[1:]]


# Running


def test_a_started_job_is_listed(shop: World) -> None:
    """A017."""
    shop.job('step "only" { run = "true" }')
    job = shop.run("build")
    assert ids(shop)[0] == job["id"]
    short = job["id"].removeprefix("job-")[:8]
    assert [short, "shop", "-", "build", "done"] == rows(shop)[0][:5]


def test_a_job_of_a_shell_step_runs_it_and_is_completed(shop: World) -> None:
    """A021."""
    shop.job('step "only" { run = "echo done >${invoke.dir}/made" }')
    job = shop.run("build")
    assert (job["status"], ran(job)) == ("completed", ["only completed"])
    assert (shop.project / "made").read_text() == "done\n"


def test_lists_subshells_and_expansions_of_bash_work_as_in_bash(shop: World) -> None:
    """A022."""
    shop.job(r"""
        step "only" {
          run = <<-SH
            true && (cd / && echo "in $(pwd)") && X=1
            echo "X=$X ${UNSET:-fallback} ${X}2"
            for i in 1 2; do echo "n$i"; done
          SH
        }
    """)
    job = shop.run("build")
    printed = [line.partition("[only] ")[2] for line in shop.log(job["id"]).splitlines()]
    assert [line for line in printed if line in ("in /", "X=1 fallback 12", "n1", "n2")] == [
        "in /",
        "X=1 fallback 12",
        "n1",
        "n2",
    ]


def test_a_failing_script_fails_the_job(shop: World) -> None:
    """A023."""
    shop.job('step "only" { run = "exit 1" }')
    job = shop.run("build", code=1)
    assert (job["status"], ran(job)) == ("failed", ["only failed"])
    assert "exit code: 1" in job["error"]


HOSTILE = [
    "it's",
    'say "hi"',
    "a b'c\"$(touch boom)`id`",
    "-rf *",
    "back\\slash",
    "a\nb",
    "${HOME}",
    "é漢",
]


@pytest.mark.parametrize("quoting", ['"${var.text}"', "${var.text}", "'${var.text}'"])
def test_hostile_values_arrive_as_they_are_however_they_are_quoted(
    shop: World, quoting: str
) -> None:
    """A024, A025, C30."""
    shop.job(
        f'step "only" {{\n  run = <<SH\nprintf %s {quoting} >"${{invoke.dir}}/got"\nSH\n}}',
        args="<text>",
    )
    for value in HOSTILE:
        shop.run("build", "--", value)
        assert (shop.project / "got").read_text() == value
    assert not list(shop.project.glob("**/boom"))


def test_chained_steps_run_in_order_under_their_names_and_the_first_listed_is_the_first(
    shop: World,
) -> None:
    """A026, A027, A028."""
    shop.job("""
        step "zeta-1" {
          run     = "echo zeta >>${invoke.dir}/order"
          on_done = { step = "beta_2" }
        }
        step "alpha" { run = "echo alpha >>${invoke.dir}/order" }
        step "beta_2" {
          run     = "echo beta >>${invoke.dir}/order"
          on_done = { step = "alpha" }
        }
    """)
    job = shop.run("build")
    assert ran(job) == ["zeta-1 completed", "beta_2 completed", "alpha completed"]
    assert (shop.project / "order").read_text().split() == ["zeta", "beta", "alpha"]
    shown = shop.oj("job", "show", job["id"]).out
    places = [shown.index(name) for name in ("zeta-1", "beta_2", "alpha")]
    assert places == sorted(places)


def test_a_missing_variable_of_the_job_is_an_error_and_a_default_fills_it(shop: World) -> None:
    """A153."""
    shop.runbook("""
        command "given" {
          args     = "[what]"
          defaults = { what = "by the command" }
          run      = { job = "strict" }
        }
        command "own" { run = { job = "lenient" } }
        job "strict" {
          vars = ["what"]
          step "only" { run = "echo \\"got ${var.what}\\"" }
        }
        job "lenient" {
          vars     = ["what"]
          defaults = { what = "by the job" }
          step "only" { run = "echo \\"got ${var.what}\\"" }
        }
    """)
    shop.runbook(
        """
        command "bare" { run = { job = "bare" } }
        job "bare" {
          vars = ["what"]
          step "only" { run = "true" }
        }
    """,
        name="bare.hcl",
    )
    before = len(ids(shop, "--no-limit"))
    refused = shop.oj("run", "bare", code=1).err
    assert "bare.hcl:2" in refused
    assert "gives no value for `what`" in refused
    assert len(ids(shop, "--no-limit")) == before
    assert "[only] got by the command\n" in shop.oj("run", "given").out
    assert "[only] got typed\n" in shop.oj("run", "given", "typed").out
    assert "[only] got by the job\n" in shop.oj("run", "own").out


def test_a_job_keeps_the_definition_it_was_started_with(shop: World) -> None:
    """Spec 1.1: later edits on disk do not affect a running job."""
    steps = """
        step "first" {
          run     = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"
          on_done = { step = "second" }
        }
        step "second" { run = "echo TEXT" }
    """
    shop.job(steps.replace("TEXT", "old text"))
    job_id = shop.start("build")
    shop.job(steps.replace("TEXT", "new text"))
    (shop.project / "go").touch()
    assert shop.finish(job_id)["status"] == "completed"
    (shop.project / "go").unlink()
    assert "old text" in shop.log(job_id)
    assert "new text" not in shop.log(job_id)


# Lists


def test_a_fresh_daemon_has_no_jobs(world: World) -> None:
    """A016, C39."""
    world.oj("daemon", "start")
    assert world.oj("job", "list").out == "No jobs\n"
    assert world.oj("job", "list", "-o", "json").json == []


def test_a_long_list_shows_twenty_rows_and_how_to_see_more(world: World) -> None:
    """C40."""
    world.job('step "only" { run = "true" }')
    world.start_many("build", 25)
    assert len(rows(world)) == 21
    hint = world.oj("job", "list").out.splitlines()[-1]
    assert "5" in hint
    assert "--no-limit" in hint
    assert len(rows(world, "-n", "5")) == 6
    assert len(rows(world, "--no-limit")) == 25
    assert len(ids(world, "-n", "3")) == 3
    assert "exclude each other" in world.oj("job", "list", "-n", "5", "--no-limit", code=2).err


def test_a_list_can_be_narrowed_by_name_and_by_status(shop: World) -> None:
    """C41."""
    shop.job('step "only" { run = "exit ${var.code}" }', args="<name> <code>", command="Narrowed")
    good, bad = shop.run("Narrowed", "Alpha", "0"), shop.run("Narrowed", "Beta", "1", code=1)
    assert set(ids(shop, "narrow")) == {good["id"], bad["id"]}
    assert ids(shop, "ALPHA") == [good["id"]]
    assert ids(shop, "narrow", "--status", "FAILED") == [bad["id"]]
    assert ids(shop, "narrow", "--status", "completed") == [good["id"]]
    assert ids(shop, "narrow", "--status", "only") == [bad["id"]]
    assert shop.oj("job", "list", "nothing-like-this").out == "No jobs\n"


def test_the_column_of_retries_is_there_only_when_a_job_has_some(world: World) -> None:
    """C42."""
    world.job('step "only" { run = "true" }')
    world.run("build")
    assert "RETRIES" not in world.oj("job", "list").out
    world.job("""
        step "only" {
          run   = "exit 1"
          retry = { attempts = 1, backoff = "1ms" }
        }
    """)
    assert world.run("build", code=1)["retries"] == 1
    assert "RETRIES" in world.oj("job", "list").out


# One job


def test_a_job_is_found_by_its_id_its_short_id_and_any_unique_prefix(shop: World) -> None:
    """A019, C43."""
    shop.job('step "only" { run = "true" }', args="<name>")
    job_id = shop.run("build", "Ada")["id"]
    bare = job_id.removeprefix("job-")
    others = [other.removeprefix("job-") for other in ids(shop, "--no-limit") if other != job_id]
    shortest = next(
        size
        for size in range(1, 17)
        # A prefix of the prefix that all ids have names them all.
        if not any(o.startswith(bare[:size]) for o in (*others, "job-"))
    )
    for typed in (job_id, bare, bare[:8], bare[:shortest], f"job-{bare[:shortest]}"):
        shown = shop.oj("job", "show", typed).out
        assert job_id in shown
        assert "var.name: Ada\n" in shown
        assert shop.oj("show", typed).out.splitlines()[0] == shown.splitlines()[0]


def test_a_prefix_of_several_jobs_lists_them(shop: World) -> None:
    """C43."""
    shop.job('step "only" { run = "true" }')
    shop.run("build")
    shop.run("build")
    known = [job_id.removeprefix("job-")[:8] for job_id in ids(shop, "--no-limit")]
    for verb in (
        ("job", "show"),
        ("show",),
        ("job", "wait"),
        ("logs",),
        ("resume",),
        ("cancel",),
        ("suspend",),
    ):
        refused = shop.oj(*verb, "job-", code=1)
        assert sum(short in refused.err for short in known) >= 2, refused
        assert not refused.out


def test_a_job_is_found_by_its_name_while_one_live_job_has_it(shop: World) -> None:
    """Y2, spec 2.8: names are accepted when exactly one live job has it."""
    shop.job('step "only" { run = "sleep 300" }', args="<name>")
    first = shop.start("build", "lovelace")
    assert shop.show("lovelace")["id"] == first
    second = shop.start("build", "lovelace")
    assert "lovelace" in shop.oj("job", "show", "lovelace", code=1).err
    shop.oj("cancel", second)
    shop.until_status(second, "cancelled")
    assert shop.oj("cancel", "lovelace", "-o", "json").json["cancelled"] == [first]


def test_show_has_the_scopes_of_variables_and_no_internals(shop: World) -> None:
    """A020, C44."""
    shop.job(
        """
        source = "folder"
        locals = { shout = "${var.name}!" }
        step "only" { run = "echo \\"${local.shout}\\"" }
        """,
        args="<name> [--tag <tag>]",
    )
    job = shop.run("build", "Ada")
    assert {name.partition(".")[0] for name in job["vars"]} == {"var", "local", "source", "invoke"}
    shown = shop.oj("job", "show", job["id"]).out.partition("Variables:")[2]
    names = [line.split(":")[0].strip() for line in shown.splitlines() if ": " in line]
    scopes = [name.partition(".")[0] for name in names]
    assert scopes == sorted(scopes, key=["var", "local", "source", "invoke"].index)
    assert "local.shout: Ada!\n" in shown


def test_long_values_are_cut_unless_all_is_asked_for(shop: World) -> None:
    """C44."""
    shop.job('step "only" { run = "true" }', args="<text>")
    value = "one\ntwo\n" + "x" * 100
    job_id = shop.run("build", value)["id"]
    short = shop.oj("job", "show", job_id).out
    assert "var.text: one\\ntwo\\nxxx" in short
    assert "x" * 81 not in short
    assert "--verbose" in short
    for option in ("-v", "--verbose"):
        full = shop.oj("job", "show", job_id, option).out
        assert "  var.text:\n    one\n    two\n    " + "x" * 100 in full


def test_an_unknown_job_is_named_and_an_error(shop: World) -> None:
    """A018, C45; exit 1 by fix Y12."""
    refused = shop.oj("job", "show", "nosuch", code=1)
    assert refused.err.startswith("Error: Job not found: nosuch\n")
    refused = shop.oj("job", "show", "nosuch", "-o", "json", code=1)
    assert refused.json["error"]["code"] == "not_found"
    assert "nosuch" in shop.oj("show", "nosuch", code=1).err
    assert "nosuch" in shop.oj("logs", "nosuch", code=1).err


def test_the_story_of_a_job_is_every_fact_about_it(shop: World) -> None:
    """D7 of system.md: the log records every fact with its cause."""
    shop.job('step "only" { run = "true" }')
    job = shop.run("build")
    story = shop.oj("job", "show", "--story", job["id"], "-o", "json").json["lines"]
    facts = [line["fact"] for line in story]
    assert facts[0] == "job:created"
    assert all(line["cause"] for line in story)
    assert facts[0] in shop.oj("job", "show", "--story", job["id"]).out


# Forgetting


@pytest.fixture
def mixed(world: World) -> dict[str, str]:
    """One job of each ending, by status."""
    world.job(
        'step "only" { run = "sleep ${var.seconds}; exit ${var.code}" }', args="<seconds> [code]"
    )
    jobs = {
        "completed": world.run("build", "0", "0")["id"],
        "failed": world.run("build", "0", "1", code=1)["id"],
    }
    for verb, status in (("cancel", "cancelled"), ("suspend", "suspended")):
        jobs[status] = world.start("build", "300")
        world.oj(verb, jobs[status])
        world.until_status(jobs[status], status)
    return jobs


def test_prune_takes_cancelled_jobs_and_keeps_recent_and_suspended_ones(
    world: World, mixed: dict[str, str]
) -> None:
    """C51."""
    logs = {status: world.show(job_id)["log_path"] for status, job_id in mixed.items()}
    dry = world.oj("job", "prune", "--all", "--dry-run", "-o", "json").json
    assert {entry["id"] for entry in dry["pruned"]} == {
        mixed["completed"],
        mixed["failed"],
        mixed["cancelled"],
    }
    assert set(ids(world)) == set(mixed.values())
    assert (
        world.oj("job", "prune", "--project", "elsewhere", "--all", "-o", "json").json["pruned"]
        == []
    )
    world.oj("job", "prune")
    assert set(ids(world)) == {mixed["completed"], mixed["failed"], mixed["suspended"]}
    world.oj("job", "prune", "--failed")
    assert set(ids(world)) == {mixed["completed"], mixed["suspended"]}
    shown = world.oj("job", "prune", "--all").out
    assert mixed["completed"].removeprefix("job-")[:8] in shown
    assert ids(world) == [mixed["suspended"]]
    assert not (world.state / logs["completed"]).exists()
    assert (world.state / logs["suspended"]).exists()
    assert "not found" in world.oj("job", "show", mixed["failed"], code=1).err


def test_prune_leaves_a_running_job_alone(shop: World) -> None:
    """C51, Y5."""
    shop.job('step "only" { run = "sleep 300" }')
    job_id = shop.start("build")
    shop.until_running(job_id, "only")
    shop.oj("job", "prune", "--all")
    assert shop.status(job_id) == "running"
    shop.oj("cancel", job_id)
