"""Runbooks that are wrong are refused before anything runs, with the place; what bash accepts is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.world import ROOT, World

GOOD = ROOT / "tests" / "data" / "runbooks" / "good"
BROKEN = ROOT / "tests" / "data" / "runbooks" / "broken"


def step(script: str) -> str:
    return f'step "first" {{ run = "true" }}\nstep "bad" {{\n  run = <<SH\n{script}\nSH\n}}'


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("echo 'x", id="A037 single quote"),
        pytest.param('echo "x', id="A038 double quote"),
        pytest.param("(echo x", id="A039 parenthesis"),
        pytest.param("{ echo x;", id="A039 brace"),
        pytest.param("echo $(echo x", id="A039 substitution"),
        pytest.param("echo x |", id="A040 pipe"),
        pytest.param("echo x &&", id="A040 and"),
        pytest.param("echo x ||", id="A040 or"),
        pytest.param("echo >", id="A041 redirection"),
        pytest.param("()", id="A042 subshell"),
        pytest.param("{}", id="A042 group"),
    ],
)
def test_broken_shell_text_is_refused_with_the_step_it_is_in(shop: World, script: str) -> None:
    """A037, A038, A039, A040, A041, A042, A043."""
    shop.job(step(script))
    refused = shop.oj("run", "build", code=1)
    assert "skipped due to errors" in refused.err
    assert "job.build.step[1](bad).run" in refused.err
    assert ".oj/runbooks/main.hcl:" in refused.err
    assert refused.out == ""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo x", "x"),
        ("echo x | tr x y", "y"),
        ("true && echo x || echo y", "x"),
        ("(echo x)", "x"),
        ("{ echo x; }", "x"),
        ("echo x > ${invoke.dir}/out; cat < ${invoke.dir}/out 2>&1", "x"),
        ("A=x env | grep ^A=x", "A=x"),
        ("B=x; echo $B ${B} ${C:-d}", "x x d"),
        ("echo $(echo x)", "x"),
        ("echo x\necho y", "x\ny"),
        ("sleep 0 & wait; echo x", "x"),
        ("( ( echo x ) )", "x"),
        ('echo \\$x \\\\ \\"', '$x \\ "'),
        ("cat <<< x", "x"),
        ("echo x; echo y", "x\ny"),
        ("f() { echo $1; }; f x", "x"),
        ("case x in x) echo x;; esac", "x"),
        ("find . -maxdepth 0 -exec echo {} \\;", "."),
        ("# it's fine\necho x", "x"),
        ("for i in 1 2; do echo $i; done | cat", "1\n2"),
    ],
)
def test_every_form_of_shell_text_is_accepted_and_does_what_it_says(
    shop: World, script: str, expected: str
) -> None:
    """A044, and what bash allows beyond (spec 1.16)."""
    shop.job(f'step "good" {{\n  run = <<SH\n{script}\nSH\n}}')
    job = shop.run("build")
    printed = [line.partition("[good] ")[2] for line in shop.log(job["id"]).splitlines()]
    assert "\n".join(printed[printed.index("step started") + 1 : -2]).strip() == expected


MERGE = r"""
command "merge" {
  args = "<branch> [--into <base>]"
  defaults = { into = "main" }
  run = { job = "merge" }
}
job "merge" {
  name    = "merge ${var.branch}"
  source  = "folder"
  on_fail = { step = "report" }
  locals  = { title = "$(printf '%s' \"merge: ${var.branch}\" | cut -c1-60)" }
  step "guard" {
    run = <<-SH
      if [[ -z "${var.branch}" || "${var.branch}" == "${var.into}" ]]; then
        echo "nothing to merge" >&2
        exit 1
      fi
      test ! -e blocked && { echo "clear"; } || exit 2
    SH
    on_done = { step = "merge" }
  }
  step "merge" {
    run = <<-SH
      for side in "${var.branch}" "${var.into}"; do
        printf '%s\n' "$side" >>sides
      done
      sort sides | while read -r line; do echo "side $line"; done
    SH
    on_done = { step = "push" }
  }
  step "push" {
    run = <<-SH
      set -x
      cat <<EOF
      title: ${local.title}
      EOF
      (
        cd .
        wc -l <sides
      )
      echo pushed
    SH
  }
  step "report" { run = "echo \"could not merge ${var.branch}\"" }
}
agent "fixer" {
  run     = "claude --model opus"
  prompt  = "Merge ${var.branch}; resolve conflicts."
  on_idle = { action = "gate", run = "git diff --check && test -z \"$(git ls-files -u)\"" }
  on_dead = { action = "resume", attempts = 2 }
  on_error = "escalate"
}
"""


def test_a_realistic_runbook_is_valid_and_runs(shop: World) -> None:
    """A045."""
    shop.runbook(MERGE)
    assert "0 errors" in shop.oj("runbook", "check").out
    job = shop.run("merge", "feature/it's")
    log = shop.log(job["id"])
    assert "[merge] side feature/it's\n" in log
    assert "title: merge: feature/it's\n" in log
    assert "[push] pushed\n" in log
    assert shop.run("merge", "main", code=1)["steps"][-1]["name"] == "report"


def test_good_runbooks_of_all_formats_are_valid(shop: World) -> None:
    """A045: every file of tests/data/runbooks/good by itself."""
    files = sorted(
        str(path) for path in GOOD.iterdir() if path.suffix in (".hcl", ".toml", ".json")
    )
    assert len(files) >= 8
    checked = shop.oj("runbook", "check", *files, code=None)
    assert "0 errors" in checked.out, checked


def test_every_broken_file_is_refused_with_a_line_and_no_traceback(shop: World) -> None:
    """Issue 2, "done when": at least 60 small broken files; their exact messages are in tests/oj_daemon/runbook."""
    files = sorted(path for path in BROKEN.iterdir() if path.name != "index.json")
    assert len(files) >= 60
    checked = shop.oj("runbook", "check", *map(str, files), code=1)
    told = checked.out + checked.err
    assert "Traceback" not in told
    silent = [path.name for path in files if not re.search(rf"{re.escape(path.name)}:\d+", told)]
    assert silent == []


@pytest.mark.parametrize("form", ["hcl", "toml", "json"])
def test_a_job_can_be_written_in_each_of_the_three_formats(shop: World, form: str) -> None:
    """Spec 1.2."""
    texts = {
        "hcl": 'command "build" { run = { job = "build" } }\njob "build" {\n  step "only" { run = "echo it works" }\n}\n',
        "toml": '[command.build]\nrun = { job = "build" }\n[[job.build.step]]\nname = "only"\nrun = "echo it works"\n',
        "json": json.dumps(
            {
                "command": {"build": {"run": {"job": "build"}}},
                "job": {"build": {"step": [{"name": "only", "run": "echo it works"}]}},
            }
        ),
    }
    shop.runbook(texts[form], name=f"main.{form}")
    assert "[only] it works\n" in shop.log(shop.run("build")["id"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('command "x" { rum = "true" }', "did you mean `run`?"),
        ('comand "x" { run = "true" }', "did you mean `command`?"),
        ('command "x" { run = { job = "nosuch" } }', "nosuch"),
        ('command "x" { run = "echo ${vra.y}" }', "vra"),
        ('command "x" {', "main.hcl:"),
    ],
)
def test_a_typing_error_is_shown_with_line_caret_and_the_nearest_word(
    world: World, text: str, said: str
) -> None:
    """A068, D10."""
    world.runbook(f"\n\n{text}\n")
    refused = world.oj("run", "x", code=1)
    assert said in refused.err
    assert "main.hcl:3" in refused.err
    assert "^" in refused.err
    assert not (world.state / "daemon.sock").exists()


def test_a_broken_file_does_not_block_the_others(shop: World) -> None:
    """A068, spec 1.1."""
    shop.runbook("this is no runbook", name="aaa.hcl")
    shop.job('step "only" { run = "true" }')
    assert shop.run("build")["status"] == "completed"
    checked = shop.oj("runbook", "check", code=1)
    assert "aaa.hcl:1" in checked.out + checked.err


def test_a_file_that_cannot_be_read_is_named(shop: World) -> None:
    """Spec 1.1."""
    (shop.project / ".oj" / "runbooks" / "latin.hcl").write_bytes(
        b'# \xe9\ncommand "x" { run = "true" }\n'
    )
    Path(shop.project / ".oj" / "runbooks" / "loop.hcl").symlink_to("loop.hcl")
    refused = shop.oj("run", "x", code=1).err
    assert "latin.hcl" in refused
    assert "loop.hcl" in refused
