"""What `oj run` does, as a user sees it: its help, shell commands, and jobs that are followed."""

from __future__ import annotations

import io
import re
import signal
import sys

import pexpect
import pytest

from tests.support.waiting import until
from tests.support.world import World

TWO_ARGUMENTS = """
command "build" {
  args = "<name> <prompt>"
  run  = { job = "build" }
}
job "build" {
  vars = ["name", "prompt"]
  step "only" { run = "echo \\"${var.name}: ${var.prompt}\\"" }
}
"""
SHELL = """
command "hello" { run = "echo hello there" }
command "greet" {
  args = "<who>"
  run  = "echo \\"hello ${args.who}\\""
}
"""
FAN = """
  step "first" {
    run = "echo begun"
    on_done = ["left", "right"]
  }
  step "left" { run = "echo on the left; until [ -e ${invoke.dir}/go ]; do sleep 0.1; done" }
  step "right" { run = "for i in $(seq 300); do echo line $i; done; until [ -e ${invoke.dir}/go ]; do sleep 0.1; done" }
  step "last" {
    after = ["left", "right"]
    run = "echo joined"
  }
"""


# A001-A012: help and lookup


@pytest.mark.parametrize("words", [[], ["--help"], ["run", "--help"]])
def test_usage_is_on_stdout(world: World, words: list[str]) -> None:
    assert "Usage: oj" in world.oj(*words).out


def test_groups_list_their_commands_and_the_version_is_printed(world: World) -> None:
    for group, verbs in (("daemon", ("start", "stop", "status")), ("job", ("list", "show"))):
        shown = world.oj(group, "--help").out
        assert all(verb in shown for verb in verbs)
    assert re.fullmatch(r"oj \d+\.\d+\.\d+\S*\n", world.oj("--version").out)


def test_an_unknown_command_fails_and_is_named(world: World) -> None:
    assert "unknown command `nosuch`" in world.oj("run", "nosuch", code=1).err


def test_missing_arguments_are_named_one_by_one(world: World) -> None:
    world.runbook(TWO_ARGUMENTS)
    assert "<name>" in world.oj("run", "build", code=1).err
    assert "<prompt>" in world.oj("run", "build", "x", code=1).err
    assert not (world.state / "daemon.sock").exists()
    assert "Command: build\n" in world.oj("run", "build", "x", "y").out


def test_a_library_with_directives_is_explained_and_its_comment_is_the_help(world: World) -> None:
    library = world.project / ".oj" / "libraries" / "kit"
    library.mkdir(parents=True)
    (library / "kit.hcl").write_text(
        'const "mode" { default = "a" }\n\n%{ if const.mode == "a" }\n# From the library\n'
        'command "do" { run = "echo library" }\n%{ endif }\n'
    )
    world.runbook('# About the importing file\nimport "kit" { alias = "k" }\n')
    assert "do" in world.oj("runbook", "info", "kit").out
    assert "From the library" in world.oj("run", "--help").out
    assert world.oj("run", "k:do", "--help").out.startswith("From the library\n")
    assert world.oj("run", "k:do").out == "library\n"
    assert world.oj("run", "do").out == "library\n"
    world.runbook('import "kit" { alias = "k" }\ncommand "do" { run = "echo local" }\n')
    assert world.oj("run", "do").out == "local\n"


# A013-A015: shell text needs no daemon and starts none


def test_shell_text_runs_here_and_no_daemon_is_started(world: World) -> None:
    world.runbook(SHELL)
    assert world.oj("run", "hello").out == "hello there\n"
    assert world.oj("run", "greet", "Ada").out == "hello Ada\n"
    assert "not running" in world.oj("daemon", "status").out


# A037-A044: broken shell text is refused with its step, the rest is accepted

BROKEN = [
    "echo 'x",
    'echo "x',
    "(echo x",
    "{ echo x;",
    "echo $(echo x",
    "echo x |",
    "echo x &&",
    "echo x ||",
    "echo >",
    "()",
    "{}",
]


@pytest.mark.parametrize("script", BROKEN)
def test_broken_shell_text_is_refused_with_the_step_it_is_in(world: World, script: str) -> None:
    world.job(f'step "bad" {{\n  run = <<SH\n{script}\nSH\n}}')
    refused = world.oj("run", "build", code=1)
    assert "skipped due to errors" in refused.err
    assert "step[0](bad)" in refused.err
    assert ".oj/runbooks/main.hcl:" in refused.err
    assert world.oj("job", "list", code=None).out.strip() in ("", "No jobs")


GOOD = [
    "echo x",
    "echo x | cat",
    "true && echo x || echo y",
    "(echo x)",
    "{ echo x; }",
    "echo x > out; cat < out 2>&1",
    "A=x env | grep ^A=x",
    "B=x; echo $B ${B} ${C:-d}",
    "echo $(echo x)",
    "echo x\necho y",
    "sleep 0 & wait",
    "( ( echo x ) )",
    'echo \\$x \\\\ \\"',
    "cat <<< x",
    "echo x; echo y",
]


def test_every_form_of_shell_text_is_accepted_and_runs(world: World) -> None:
    steps = [
        f'step "s{at}" {{\n  run = <<SH\n{script}\nSH\n'
        + (f'  on_done = {{ step = "s{at + 1}" }}\n' if at + 1 < len(GOOD) else "")
        + "}"
        for at, script in enumerate(GOOD)
    ]
    world.job('source = "folder"\n' + "\n".join(steps))
    done = world.oj("run", "build")
    assert done.out.splitlines()[-1].startswith("completed ")


# Jobs


def test_started_names_the_job_and_each_hint_works_as_it_stands(world: World) -> None:
    world.runbook(TWO_ARGUMENTS)
    shown = world.oj("run", "--detach", "build", "x", "y").out
    assert shown.startswith("Project: shop\nCommand: build\n")
    short = re.search(r"^Started x \(job: (\w{8})\)$", shown, re.MULTILINE)
    assert short is not None, shown
    hints = re.findall(rf"oj (.*) {short[1]}$", shown, re.MULTILINE)
    assert hints == ["job show", "job wait", "logs -f", "suspend", "cancel"]
    world.finish(short[1])
    for hint in hints:
        world.oj(*hint.split(), short[1])


def test_the_runbook_that_was_named_is_the_one_that_runs(world: World) -> None:
    world.job('step "a" { run = "echo from main" }')
    world.job('step "a" { run = "echo from other" }', name="other.hcl")
    assert "defined in several" in world.oj("run", "build", code=1).err
    assert "[a] from other\n" in world.oj("run", "--runbook", ".oj/runbooks/other.hcl", "build").out
    loose = world.job('step "a" { run = "echo from afar" }', name="loose.hcl")
    afar = loose.rename(world.folder / "loose.hcl")
    assert "[a] from afar\n" in world.oj("run", "--runbook", str(afar), "build").out


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 3", 1)])
def test_in_a_pipe_there_are_plain_lines_and_the_jobs_exit_code(
    world: World, script: str, code: int
) -> None:
    world.job(f'step "a" {{ run = "echo one; echo two >&2; {script}" }}')
    done = world.oj("run", "build", code=code)
    lines = [line.partition("Z ")[2] for line in done.out.splitlines() if "Z [a]" in line]
    assert lines[:3] == ["[a] step started", "[a] one", "[a] two"]
    assert "\x1b" not in done.out


def test_a_cancelled_and_a_suspended_job_have_exit_codes_of_their_own(world: World) -> None:
    world.job('step "a" { run = "echo here; sleep 300" }')
    for verb, code in (("cancel", 4), ("suspend", 5)):
        child = world.spawn("run", "build")
        assert child.stdout is not None
        short = next(
            match[1] for line in child.stdout if (match := re.search(r"\(job: (\w+)\)", line))
        )
        next(line for line in child.stdout if "[a] here" in line)
        world.oj(verb, short)
        child.communicate(timeout=60)
        assert child.returncode == code


def test_wait_with_json_gives_the_job_as_it_ended(world: World) -> None:
    world.job('step "a" { run = "exit 3" }')
    found = world.oj("run", "--wait", "-o", "json", "build", code=1).json
    assert (found["type"], found["status"]) == ("JobDetail", "failed")


def test_the_starter_of_init_is_right_and_runs(world: World) -> None:
    folder = world.folder / "fresh"
    folder.mkdir()
    (folder / "notes.txt").write_text("TODO\n")
    world.oj("init", cwd=folder)
    assert world.oj("runbook", "check", cwd=folder).out == "ok: 1 file, 0 errors, 0 warnings\n"
    assert world.oj("run", "hello", "Ada", "--loud", cwd=folder).out == "HELLO, ADA!\n"
    done = world.oj("run", "count", "--word", "it's $(x)", cwd=folder).out
    assert "[report] files that match: 0\n" in done
    assert "[report] files:            3\n" in done


# Following


def go(world: World) -> None:
    (world.project / "go").touch()


def numbered(text: str) -> list[str]:
    return re.findall(r"\[right\] line (\d+)$", text, re.MULTILINE)


@pytest.mark.parametrize("kill", [True, False])
def test_in_a_pipe_no_line_is_lost_or_doubled_when_the_daemon_is_replaced(
    world: World, kill: bool
) -> None:
    world.job(FAN)
    child = world.spawn("run", "build")
    assert child.stdout is not None
    seen = ""
    while "line 150" not in seen:
        seen += child.stdout.readline()
    if kill:
        world.kill_daemon()
        world.oj("daemon", "start")
    else:
        world.oj("daemon", "restart")
    go(world)
    # Not communicate() alone: it would forget what readline() has read ahead.
    text = seen + child.stdout.read()
    _, err = child.communicate(timeout=90)
    assert child.returncode == 0, err
    assert numbered(text) == [str(i) for i in range(1, 301)]
    assert text.count("[last] joined\n") == 1
    assert err.count("lost the daemon") == 1


class Terminal:
    """`oj run` on a terminal of its own."""

    def __init__(self, world: World, *args: str, columns: int = 80, rows: int = 24) -> None:
        self.seen = io.StringIO()
        self.process: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            ["-m", "oj_cli", "run", *args],
            dimensions=(rows, columns),
            cwd=str(world.project),
            env={**world.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", "NO_COLOR": "1"},
            encoding="utf-8",
            codec_errors="replace",
            timeout=60,
        )
        self.process.logfile_read = self.seen

    def end(self) -> int:
        """Read to the end; the exit code. The cursor has to be visible again."""
        self.process.expect(pexpect.EOF)
        self.process.close()
        text = self.seen.getvalue()
        assert text.rfind("\x1b[?25h") >= text.rfind("\x1b[?25l"), "the cursor stays hidden"
        assert self.process.exitstatus is not None, f"signal {self.process.signalstatus}"
        return int(self.process.exitstatus)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 12)])
def test_on_a_terminal_the_job_is_shown_live_and_then_summed_up(
    world: World, columns: int, rows: int
) -> None:
    world.job(FAN)
    terminal = Terminal(world, "build", columns=columns, rows=rows)
    terminal.process.expect("line 300")
    terminal.process.expect("Ctrl-C detaches")
    go(world)
    terminal.process.expect("completed build")
    assert terminal.end() == 0
    assert all(sign in terminal.seen.getvalue() for sign in ("┌", "└", "✓ "))


def test_on_a_terminal_a_failure_shows_its_reason_and_last_output(world: World) -> None:
    world.job('step "a" { run = "echo why it failed; exit 7" }')
    terminal = Terminal(world, "build")
    terminal.process.expect("last output of a:")
    terminal.process.expect("why it failed")
    terminal.process.expect("failed build .*exit code: 7")
    terminal.process.expect("oj resume")
    assert terminal.end() == 1


def test_on_a_terminal_control_c_detaches_and_the_job_goes_on(world: World) -> None:
    world.job(FAN)
    terminal = Terminal(world, "build")
    terminal.process.expect(r"\(job: (\w+)\)")
    assert isinstance(terminal.process.match, re.Match)
    short = terminal.process.match.group(1)
    terminal.process.expect("line 300")
    terminal.process.sendintr()
    terminal.process.expect("Detached; the job goes on.")
    terminal.process.expect(f"oj logs -f {short}")
    assert terminal.end() == 0
    assert world.status(short) == "running"
    go(world)
    assert world.finish(short)["status"] == "completed"


def test_on_a_terminal_following_survives_the_daemon(world: World) -> None:
    world.job(FAN)
    terminal = Terminal(world, "build")
    terminal.process.expect("line 300")
    world.kill_daemon()
    terminal.process.expect("lost the daemon")
    world.oj("daemon", "start")
    go(world)
    terminal.process.expect("completed build")
    assert terminal.end() == 0


ATTACK = r"""
step "a" {
  run = <<-SH
    printf '\033[2J\033]0;owned\007\377\n'
    head -c 1000000 /dev/zero | tr '\0' z
    echo
    sleep 1
    exit 1
  SH
}
"""


def test_output_that_attacks_the_terminal_is_harmless(world: World) -> None:
    world.job(ATTACK)
    terminal = Terminal(world, "build")
    terminal.process.expect("failed build")
    assert terminal.end() == 1
    drawn = terminal.seen.getvalue()
    assert not any(bad in drawn for bad in ("\x1b[2J", "\x1b]0;", "\x07"))
    assert "^[[2J" in drawn


def test_a_terminate_signal_gives_the_terminal_back_and_leaves_the_job_alone(world: World) -> None:
    world.job(FAN)
    terminal = Terminal(world, "build")
    terminal.process.expect(r"\(job: (\w+)\)")
    assert isinstance(terminal.process.match, re.Match)
    short = terminal.process.match.group(1)
    terminal.process.expect("Ctrl-C detaches")
    terminal.process.kill(signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    assert world.status(short) == "running"
    go(world)
    until(lambda: world.status(short) == "completed", 60, "the job ends")


ASK = """
command "ask" {
  run = "read -r -p 'name? ' name; test -t 0; test -t 1; echo \\"hello $name\\""
}
"""


def test_a_shell_command_has_the_terminal(world: World) -> None:
    world.runbook(ASK)
    terminal = Terminal(world, "ask")
    terminal.process.expect(r"name\? ")
    terminal.process.sendline("Ada")
    terminal.process.expect("hello Ada")
    assert terminal.end() == 0
