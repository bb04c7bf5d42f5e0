"""Shell quoting: real bash must get every value as it is, wherever its placeholder stands."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oj_daemon.runbook.model import Shell, Use
from oj_daemon.runbook.shell import ShellError, compile_shell, compile_text
from oj_daemon.runbook.template import BadValue, placeholders, resolve

# `show` prints how many arguments it got, and these; `input` shows what it reads.
PRELUDE = """set -euo pipefail
show() { printf '%s\\0' "$#" "$@"; }
input() { IFS= read -r -d '' got || :; show "$got"; }
"""

# A script, and the arguments of each `show` in it for a value x.
Contexts = Sequence[tuple[str, Callable[[str], Sequence[Sequence[str]]]]]
CONTEXTS: Contexts = [
    ("show ${var.x}", lambda x: [[x]]),
    ('show "${var.x}"', lambda x: [[x]]),
    ("show '${var.x}'", lambda x: [[x]]),
    ("show $'\\x41${var.x}\\n'", lambda x: [["A" + x + "\n"]]),
    ('show $"${var.x}"', lambda x: [[x]]),
    ("show --x=${var.x}", lambda x: [["--x=" + x]]),
    ("show a${var.x}b\"c${var.x}d\"'e${var.x}f'", lambda x: [[f"a{x}bc{x}de{x}f"]]),
    ("show ${var.x}${var.x} \"${var.x}\"${var.x}'${var.x}'", lambda x: [[x + x, x + x + x]]),
    ("show 'it'\\''s ${var.x}'", lambda x: [["it's " + x]]),
    ('show "a\\\\${var.x}"', lambda x: [["a\\" + x]]),
    ("show 'a\\${var.x}'", lambda x: [["a\\" + x]]),
    ("show a\\\\${var.x}", lambda x: [["a\\" + x]]),
    ("show \\${var.x} \"\\${var.x}\" '$${var.x}' \"$${var.x}\"", lambda _: [["${var.x}"] * 4]),
    ("show a \\\n  ${var.x} \\\n  b", lambda x: [["a", x, "b"]]),
    ("show {a,${var.x}} ~/${var.x}", lambda x: [["a", x, "/home/" + x]]),
    ("y=${var.x}; show \"$y\"", lambda x: [[x]]),
    ('y="a ${var.x}"; y+=${var.x}; show "$y"', lambda x: [[f"a {x}{x}"]]),
    ("y=(${var.x} '${var.x}' z); y+=(${var.x}); show \"${y[@]}\"", lambda x: [[x, x, "z", x]]),
    ('declare -A m=([k]=${var.x}); m[l]=${var.x}; show "${m[k]}" "${m[l]}"', lambda x: [[x, x]]),
    ('f() { local a=${var.x} b; b=${var.x}; show "$a" "$b" ${var.x}; }; f', lambda x: [[x, x, x]]),
    ("readonly y=${var.x}; declare z=${var.x}; show \"$y\" \"$z\"", lambda x: [[x, x]]),
    ("export Y=${var.x}; bash -c 'printf \"1\\0%s\\0\" \"$Y\"'", lambda x: [[x]]),
    ("Y=${var.x} Z='${var.x}' bash -c 'printf \"2\\0%s\\0%s\\0\" \"$Y\" \"$Z\"'", lambda x: [[x, x]]),
    ("bash -c 'printf \"%s\\0\" \"$#\" \"$@\"' _ ${var.x} b", lambda x: [[x, "b"]]),
    ("input <<END\n<${var.x}> $((1+1)) \\${var.x}\nEND", lambda x: [[f"<{x}> 2 ${{var.x}}\n"]]),
    (
        "input <<'END'\n$HOME `id` \\ \"q\" 'q' \\$x <${var.x}>\n${var.x} \\\nlast\nEND\nshow after",
        lambda x: [[f"$HOME `id` \\ \"q\" 'q' \\$x <{x}>\n{x} \\\nlast\n"], ["after"]],
    ),
    ('input <<"END"\n${HOME} ${var.x}\nEND', lambda x: [[f"${{HOME}} {x}\n"]]),
    ("input <<\\END\n$HOME ${var.x}\nEND", lambda x: [[f"$HOME {x}\n"]]),
    ("input <<-END\n\t<${var.x}>\n\tb\n\tEND", lambda x: [[f"<{x}>\nb\n"]]),
    ("input <<-END\n\t${var.x}\n\tEND", lambda x: [[f"{x}\n"]]),
    ("input <<-'END'\n\t${var.x} $HOME\n\tEND", lambda x: [[f"{x} $HOME\n"]]),
    ("show \"$(cat <<'END'\n<${var.x}> ) ' $x\nEND\n)\"", lambda x: [[f"<{x}> ) ' $x"]]),
    ("cat <<END | input\n<${var.x}>\nEND", lambda x: [[f"<{x}>\n"]]),
    ("cat <<'END' | input\n<${var.x}>\nEND", lambda x: [[f"<{x}>\n"]]),
    ("input <<< ${var.x}", lambda x: [[x + "\n"]]),
    ("input <<< \"a${var.x}\"'${var.x}'", lambda x: [[f"a{x}{x}\n"]]),
    ("input < <(printf '%s' ${var.x})", lambda x: [[x]]),
    ("printf '%s' ${var.x} | input", lambda x: [[x]]),
    ("case ${var.x} in '${var.x}') show yes ;; *) show no ;; esac", lambda _: [["yes"]]),
    ('y=${var.x}.; case $y in ${var.x}.) show yes ;; *) show no ;; esac', lambda _: [["yes"]]),
    ("case ab. in ${var.x}.) show yes ;; *) show no ;; esac", lambda x: [["yes" if x == "ab" else "no"]]),
    ("if [[ ab == ${var.x} ]]; then show y; else show n; fi", lambda x: [["y" if x == "ab" else "n"]]),
    ("if [[ -n ${var.x} && ${var.x} == ${var.x} ]]; then show y; else show n; fi", lambda x: [["y" if x else "n"]]),
    ("if [ -n ${var.x} ]; then show y; else show n; fi", lambda x: [["y" if x else "n"]]),
    ("if test ab = ${var.x}; then show y; else show n; fi", lambda x: [["y" if x == "ab" else "n"]]),
    ("show \"$(printf '%s.' ${var.x})\"", lambda x: [[x + "."]]),
    ("show \"`printf '%s.' \"${var.x}\"`\" `test 'a${var.x}' = a${var.x} && printf c`", lambda x: [[x + ".", "c"]]),
    ('show "$(printf %s. "$(printf %s. \'${var.x}\')")"', lambda x: [[x + ".."]]),
    ("for i in ${var.x} b; do show \"$i\"; done", lambda x: [[x], ["b"]]),
    ("while :; do show ${var.x}; break; done", lambda x: [[x]]),
    ("{ show ${var.x}; } 2>&1; ( show '${var.x}' )", lambda x: [[x], [x]]),
    ("false || show ${var.x} && ! false", lambda x: [[x]]),
    ('show "${nope:-${var.x}}" ${nope:-${var.x}} "${nope:-a${var.x}b}"', lambda x: [[x, x, f"a{x}b"]]),
    ('y=aXb; show "${y/X/${var.x}}"; z=${y/X/${var.x}}; show "$z"', lambda x: [[f"a{x}b"], [f"a{x}b"]]),
    ('show "${new:=${var.x}}"; show "${new:+${var.x}}" ${new:+"${var.x}"}', lambda x: [[x], [x, x] if x else [""]]),
    ("show \"`printf '%s.' '${var.x}'`\"", lambda x: [[x + "."]]),
    ('"$(printf show)" ${var.x}', lambda x: [[x]]),
    ('input <<"END"\n$${HOME} $${var.x} ${var.x}\nEND', lambda x: [[f"${{HOME}} ${{var.x}} {x}\n"]]),
    ('y=b; show "${y-$(printf %s ${var.x})}" "$(input <<<"${var.x}" | cat >/dev/null; printf c)"', lambda _: [["b", "c"]]),
    ("if true; then\n  if true; then show ${var.x}; fi\nfi # ${var.x}", lambda x: [[x]]),
    ("{ cat | cat; } <<'END' | input\n${var.x}\nEND", lambda x: [[x + "\n"]]),
    ("# ${var.x} '\nshow c # ${var.x} \"", lambda _: [["c"]]),
]  # fmt: skip

# Where the value is a pattern for something that is compared; too slow in bash for long ones.
MATCHES: Contexts = [
    ('y="${var.x}tail"; show "${y#${var.x}}" ${y#"${var.x}"}', lambda _: [["tail", "tail"]]),
    ('y="head${var.x}"; show "${y%${var.x}}" ${y%%${var.x}}', lambda _: [["head", "head"]]),
    ('y=${var.x}; show "${y/${var.x}/b}"', lambda x: [["b" if x else ""]]),
    ('if [[ "q${var.x}" =~ ^q${var.x}$ ]]; then show y; else show n; fi', lambda _: [["y"]]),
    ('if [[ abc =~ ^${var.x}c ]]; then show y; else show n; fi', lambda x: [["y" if x == "ab" else "n"]]),
]  # fmt: skip

HOSTILE = [
    "",
    "plain",
    "ab",
    " two  words ",
    "*",
    "?[a-z]*",
    "~",
    "-rf",
    "--help",
    "'",
    '"',
    "'; pwned; '",
    '"; pwned; "',
    "$(pwned)",
    "`pwned`",
    "${IFS}",
    "$HOME $0 $$",
    "\\",
    "\\\\",
    "\\'",
    "a\\\nb",
    "; pwned",
    "| pwned",
    "& pwned",
    "&& pwned",
    "> created",
    "< /etc/passwd",
    "<(pwned)",
    "\npwned\n",
    "END\npwned\n",
    "\nEND\npwned",
    "\tEND\n",
    "a\rb\r\n",
    "!! !$",
    "{a,b} {1..9}",
    "(pwned)",
    "a[$(pwned)]",
    "&",
    "#comment",
    "x=1",
    "%s%n%d\\n",
    "${var.x} ${OJ_V0} OJ_V0 $OJ_V0",
    "esac; pwned",
    "}; pwned; {",
    ")\npwned",
    "naïve ☃ 日本語 \U0001f600 e\u0301 \u202e",
    "".join(map(chr, range(1, 32))) + "\x7f",
    "\x01", "\x7f", "a\x01\x7fb",
    os.fsdecode(bytes(range(128, 256))),
    os.fsdecode(b"\xc3\x28 \xff"),
    "long '\"$(pwned)\\" * 7_000,
]  # fmt: skip


@functools.cache
def compiled(template: str) -> Shell:
    return compile_shell(template, {"name", "workspace"})


@pytest.fixture(scope="module")
def cage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to run in, where `pwned` is a program that leaves a trace."""
    folder = tmp_path_factory.mktemp("cage")
    (folder / "bin").mkdir()
    canary = folder / "bin" / "pwned"
    canary.write_text(f"#!/bin/sh\ntouch {folder}/bin/trace\n")
    canary.chmod(0o755)
    (folder / "here").mkdir()
    (folder / "here" / "a").touch()
    (folder / "here" / "b.txt").touch()
    return folder


def run(cage: Path, script: str, env: dict[str, str]) -> bytes:
    base = {"PATH": f"{cage}/bin:/usr/bin:/bin", "HOME": "/home"}
    (cage / "script").write_text(script)
    done = subprocess.run(
        ["bash", cage / "script"],
        env=base | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd=cage / "here",
        timeout=60,
    )
    assert done.stderr == b""
    assert done.returncode == 0
    assert not (cage / "bin" / "trace").exists(), "a value was executed"
    assert sorted(path.name for path in (cage / "here").iterdir()) == ["a", "b.txt"]
    return done.stdout


def check_everywhere(cage: Path, value: str, contexts: Contexts = CONTEXTS) -> None:
    """Run every context with this value in one bash."""
    script = PRELUDE
    want: list[bytes] = []
    env: dict[str, str] = {}
    for template, expect in contexts:
        shell = compiled(template)
        script += f"(\n{shell.script}\n)\nprintf '\\0\\0'\n"
        env |= resolve(shell.bindings, {"var.x": value})
        shown = [[str(len(words)), *words] for words in expect(value)]
        want.append(b"".join(os.fsencode(word) + b"\0" for words in shown for word in words))
    assert set(env) == {"OJ_V0"}
    assert value not in script or len(value) < 30
    got = run(cage, script, env)
    at = 0
    for (template, _), part in zip(contexts, want, strict=True):
        piece = got[at : at + len(part) + 2]
        assert piece == part + b"\0\0", f"{template!r} with {value[:60]!r}"
        at += len(piece)
    assert at == len(got)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:16]))
def test_every_context_hands_over_hostile_values_byte_for_byte(cage: Path, value: str) -> None:
    check_everywhere(cage, value)


@pytest.mark.parametrize(
    "value", [value for value in HOSTILE if len(value) < 1000], ids=lambda value: ascii(value[:16])
)
def test_as_a_pattern_a_value_matches_itself_only(cage: Path, value: str) -> None:
    check_everywhere(cage, value, MATCHES)


BYTES = st.binary(max_size=60).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
TRICKS = st.lists(
    st.sampled_from(
        [*"'\"`$(){}[];|&<>\\\n\t !*?#~=-a1", "$(pwned)", "pwned", "END", "${", "\nEND\n"]
    ),
    max_size=12,
).map("".join)


@given(value=st.one_of(BYTES, TRICKS))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_context_hands_over_any_value_byte_for_byte(cage: Path, value: str) -> None:
    check_everywhere(cage, value)


@given(value=st.one_of(BYTES, TRICKS))
@settings(max_examples=40, deadline=None)
def test_any_value_as_a_pattern_matches_itself_only(cage: Path, value: str) -> None:
    check_everywhere(cage, value, MATCHES)


def test_values_name_files_in_redirections(cage: Path, tmp_path: Path) -> None:
    shell = compiled(
        "cd ${var.dir}\n"
        "echo 1 > ${var.x}; echo 2 >> out.${var.x}; echo 3 &> '${var.x}3'; echo $(< ${var.x}) < ${var.x}\n"
        'cat < "${var.x}" >out 2>${var.x}2'
    )
    values = {"var.dir": str(tmp_path), "var.x": "$(pwned) * 'a'"}
    assert run(cage, shell.script, resolve(shell.bindings, values)) == b"1\n"
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        "$(pwned) * 'a'": "1\n",
        "out.$(pwned) * 'a'": "2\n",
        "$(pwned) * 'a'3": "3\n",
        "$(pwned) * 'a'2": "",
        "out": "1\n",
    }


def test_substrings_and_defaults_are_taken_before_bash_sees_them(cage: Path) -> None:
    template = (
        PRELUDE
        + 'show ${var.x:1} ${var.x:0:2} \'${var.nope:-$HOME "}\' ${var.x:2:1:-d} "${name:-n}"'
    )
    shell = compiled(template)
    env = resolve(shell.bindings, {"var.x": "\u00e9'$b", "name": ""})
    assert env == {
        "OJ_V0": "'$b",
        "OJ_V1": "\u00e9'",
        "OJ_V2": '$HOME "',
        "OJ_V3": "$",
        "OJ_V4": "n",
    }
    shown = ["5", *env.values()]
    assert run(cage, shell.script, env) == b"".join(word.encode() + b"\0" for word in shown)


def test_one_variable_serves_all_places_of_a_placeholder() -> None:
    shell = compiled("a ${var.x} '${var.y}' ${var.x} ${var.x:0:1} ${var.x:-d}")
    assert [(bound.env, bound.name) for bound in shell.bindings] == [
        ("OJ_V0", "var.x"),
        ("OJ_V1", "var.y"),
        ("OJ_V2", "var.x"),
        ("OJ_V3", "var.x"),
    ]


def test_the_script_keeps_its_lines() -> None:
    template = (
        "# ${var.a}\ncat <<'X' | tr a b\n${var.b}\n$(no)\nX\necho '\n${var.c}' \\\n ${var.d}\n"
    )
    script = compiled(template).script
    assert script.count("\n") == template.count("\n")
    assert script.split("\n")[2:4] == ["${OJ_V0}", "\\$(no)"]


@pytest.mark.parametrize(
    "script",
    [
        'echo ${X:-default} ${Y} $Z ${#Z} ${Z//a/b} ${Z:1:2} ${!Z} ${A[@]} $((1 + 2)) $$ $? "$@"',
        "name=1; echo ${name}",
        "for name in a b; do echo ${name}; done",
        "read -r name; echo ${name}",
        "f() { local name; name=$1; echo ${name}; }",
        "export name=x; echo ${name}",
        "printf -v name %s x; echo ${name}",
        "mapfile -t name < f; echo ${name}",
        "while IFS= read -r name; do echo ${name}; done < f",
    ],
)
def test_what_is_bash_s_own_is_left_alone(script: str) -> None:
    assert compiled(script) == Shell(text=script, script=script)


def test_undotted_names_are_ours_only_where_known() -> None:
    assert compile_shell("echo ${name} ${other}", {"name"}).script == 'echo "${OJ_V0}" ${other}'
    assert compile_shell("echo ${name} ${other}").script == "echo ${name} ${other}"


def test_an_escape_hands_the_rest_to_bash_as_written() -> None:
    assert compiled("echo $${name} '$${var.x}'").script == "echo ${name} '${var.x}'"


@pytest.mark.parametrize(
    "script",
    [
        "echo $(( ${var.n} + 1 ))",
        'echo "$(( 1 + ${var.n} ))"',
        "echo $[ ${var.n} ]",
        "(( ${var.n} > 1 ))",
        "if (( 1 < ${var.n} )); then echo; fi",
        "for (( i = 0; i < ${var.n}; i++ )); do echo; done",
        "let x=${var.n}+1",
        'let "x = ${var.n}"',
        "a[${var.n}]=1",
        'echo "${a[${var.n}]}"',
        "a=([${var.n}]=x)",
        "[[ ${var.n} -gt 3 ]]",
        '[[ 3 -le "${var.n}" && -n x ]]',
        "echo ${x:${var.n}} ${x:${var.n}:2}",
        'echo "${x:0:${var.n}}" "${@:${var.n}}"',
        "declare -i x=${var.n}",
        "local -ri x='${var.n}'",
        "declare -i x; x=${var.n}",
        'n="${var.n}"; (( n > 3 ))',
        "n=${var.n}; echo $(( n + 1 ))",
        'n=${var.n}; [[ "$n" -eq 3 ]]',
        "n=${var.n}; echo ${a[n]}",
        "for n in 1 ${var.n}; do echo $((n)); done",
        "local n=${var.n}; let n++",
        "while (( $(date +%s) < ${var.n} )); do :; done",
    ],
)
def test_where_bash_calculates_only_integers_pass(script: str) -> None:
    shell = compiled(script)
    assert {bound.use for bound in shell.bindings} == {Use.INTEGER}
    assert set(resolve(shell.bindings, {"var.n": "-08"}).values()) == {"-8"}
    with pytest.raises(BadValue, match=r"\$\{var\.n\}: it stands where bash calculates"):
        resolve(shell.bindings, {"var.n": "a[$(pwned)]"})


@pytest.mark.parametrize(
    "script",
    [
        "[ ${var.n} -eq 3 ]",
        "test 3 -lt ${var.n}",
        "echo $(( $(wc -l < ${var.n}) + 1 ))",
        'f=${var.n}; echo $(( $(wc -l < "$f") + 1 ))',
        "[[ ${var.n} == 3 && 1 -eq 1 ]]",
        "declare -A m; m[${var.n}]=1; echo ${m[${var.n}]}; k=${var.n}; echo ${m[$k]}",
    ],
)
def test_elsewhere_any_value_passes(script: str) -> None:
    shell = compiled(script)
    assert {bound.use for bound in shell.bindings} == {Use.ANY}


def test_hostile_keys_of_associative_arrays_are_only_keys(cage: Path) -> None:
    shell = compiled(PRELUDE + 'declare -A m; m[${var.x}]=1; show "${!m[@]}" "${m[${var.x}]}"')
    for value in ("$(pwned)", "a]=1; pwned", "x[$(pwned)]", "`pwned`", "a b"):
        got = run(cage, shell.script, resolve(shell.bindings, {"var.x": value}))
        assert got == f"2\0{value}\x001\0".encode()


SECOND_SHELLS = [
    'bash -c "echo ${var.x}"',
    "bash -c 'echo ${var.x}'",
    "sh -ec \"echo '${var.x}'\"",
    '/bin/bash -euo pipefail -c "${var.x}" _ a',
    'env X=1 bash -c "${var.x}"',
    'sudo -u me sh -c "${var.x}"',
    'timeout 5 bash -c "${var.x}"',
    'echo a | xargs -n 1 sh -c "${var.x}"',
    'find . -name a -exec sh -c "${var.x} {}" \\;',
    'docker exec box sh -c "${var.x}"',
    'kubectl exec pod -- bash -c "${var.x}"',
    "nice zsh -c a${var.x}",
    "eval ${var.x}",
    'eval "echo ${var.x}"',
    "builtin eval 'a' ${var.x}",
    'ssh host "ls ${var.x}"',
    "ssh -p 22 me@host ls ${var.x}",
    "ssh host bash -c 'ls ${var.x}'",
    "ssh -o ProxyCommand=${var.x} host ls",
    "ssh ${var.x} ls",
    'trap "rm ${var.x}" EXIT',
    "source <(echo ${var.x})",
    ". <(cat <<< ${var.x})",
    'bash -c "$(echo ${var.x})"',
    'eval "$(cat <<< "${var.x}")"',
    'eval "$(tool ${var.x})"',
    'ssh host "ls $(basename ${var.x})"',
    "bash <<END\n$(tool ${var.x})\nEND",
    'su me -c "ls ${var.x}"',
    "watch ls ${var.x}",
    "parallel ls ${var.x} ::: a",
    'git rebase --exec "make ${var.x}" main',
    'flock f -c "ls ${var.x}"',
    'python3 -c "print(${var.x})"',
    "python -Ic 'print(\"${var.x}\")'",
    'node -e "x = ${var.x}"',
    'node --eval="x = ${var.x}"',
    "perl -ne 'print ${var.x}' f",
    "ruby -e 'puts ${var.x}'",
    "php -r '${var.x};'",
    "awk '{ print ${var.x} }' f",
    'awk -F : "/${var.x}/" f',
    'sed "s/a/${var.x}/" f',
    'sed -i -e "s/a/${var.x}/" f',
    "bash <<< ${var.x}",
    "bash -s a <<END\n${var.x}\nEND",
    "sudo bash <<'END'\n${var.x}\nEND",
    "ssh host <<END\n${var.x}\nEND",
    "ssh host bash -s <<END\n${var.x}\nEND",
    "docker exec -i box sh <<END\n${var.x}\nEND",
    "python3 - <<END\n${var.x}\nEND",
    "cat <<END | bash\n${var.x}\nEND",
    "echo ${var.x} | bash",
    'printf "%s" "${var.x}" | sudo sh',
    "echo ${var.x} | tee f | bash",
    "{ echo ${var.x}; } | sh",
]


@pytest.mark.parametrize("script", SECOND_SHELLS)
def test_program_text_of_another_interpreter_takes_no_values(script: str) -> None:
    with pytest.raises(
        ShellError, match=r"\$\{var\.x\} cannot stand here: .*(run|programs)"
    ) as caught:
        compiled(script)
    assert "${var.x}" in caught.value.hint
    assert script.split("\n")[caught.value.line - 1][caught.value.column - 1 :].startswith(
        "${var.x}"
    )


@pytest.mark.parametrize(
    "script",
    [
        "bash -c 'echo \"$1\"' _ ${var.x}",
        "bash -s -- ${var.x} <<'END'\necho \"$1\"\nEND",
        "bash script.sh ${var.x}",
        "bash ${source.root}/script.sh ${var.x}",
        "ssh host \"ls $(printf '%q' ${var.x})\"",
        "ssh -- ${var.x} ls",
        "ssh me@${var.x} ls",
        "ssh host cat <<END\n${var.x}\nEND",
        "python3 tool.py -c ${var.x} <<END\n${var.x}\nEND",
        "python3 -m tool ${var.x}",
        "perl -pe 's/a/b/' ${var.x}",
        "VALUE=${var.x} python3 -c 'import os'",
        "awk -v x=${var.x} '{ print x }' ${var.x}",
        "sed -e s/a/b/ ${var.x}",
        "sed -n -f prog ${var.x}",
        "git commit -m ${var.x}",
        "env X=${var.x} make",
        "timeout 5 make ${var.x}",
        "apt-get install bash ${var.x}",
        "echo bash -c ${var.x}",
        "curl ${var.x} | bash",
        "command -v ${var.x}",
        '"$cmd" ${var.x}; $cmd run ${var.x}; $X/run ${var.x}',
        "sudo -u ${var.x} make",
        "echo ${var.x} | while read -r line; do echo $line; done",
        "${source.root}/run ${var.x}; ${workspace}/bin/a; ${invoke.dir}/b; . ${source.root}/env",
        "export 'A=${var.x}' B=${var.x}; read -r -p ${var.x} answer",
    ],
)
def test_the_safe_forms_compile(script: str) -> None:
    assert compiled(script).bindings


@pytest.mark.parametrize(
    "script",
    [
        "${var.x} a", "'${var.x}'", "./bin/${var.x}", "${var.x}/bin/tool", "${item.cmd}", "$(${var.x})", "a | ${var.x}",
        "if ${var.x}; then a; fi", "sudo ${var.x}", "env A=1 ${var.x}", "exec ${var.x}", "timeout 5 ${var.x}", "xargs ${var.x}",
        "A=1 ${var.x}", "source ${var.x}", ". ${var.x}", "bash ${var.x}", "bash -x ${var.x}", "${source.branch}", "! ${var.x}",
        "$cmd ${var.x}", "$(no) ${var.x}", "sudo ${FLAGS} $X ${var.x}",
        "$(echo ${var.x}) a", "coproc ${var.x}", "${var.x}=1", "command ${var.x}",
    ],
)  # fmt: skip
def test_a_value_cannot_choose_the_program(script: str) -> None:
    with pytest.raises(ShellError, match="choose which program"):
        compiled(script)


@pytest.mark.parametrize(
    "script",
    [
        "read ${var.x}", "unset ${var.x}", "unset 'a[${var.x}]'", "unset a[${var.x}]", "export ${var.x}", "export '${var.x}=1'",
        "declare -n r=${var.x}", "local ${var.x}=1", "printf -v ${var.x} a", "[[ -v ${var.x} ]]", "[ -v 'a[${var.x}]' ]",
        "test -v ${var.x}", "mapfile -t ${var.x}", "getopts ab ${var.x}", "wait -p ${var.x}",
    ],
)  # fmt: skip
def test_a_value_cannot_choose_a_variable(script: str) -> None:
    with pytest.raises(ShellError, match="choose a variable"):
        compiled(script)


@pytest.mark.parametrize(
    ("script", "line", "column", "message", "hint"),
    [
        (
            "echo\n  ${foo.x}",
            2,
            3,
            "neither oj nor bash has a variable",
            "our names begin with args",
        ),
        ("echo ${vars.x}", 1, 6, "neither oj nor bash has a variable", "did you mean ${var.x}?"),
        ("echo a ${var.x//a/b}", 1, 8, "only a substring", 'x="${var.x}"'),
        ("echo ${var.x:-${var.y}}", 1, 6, "only a substring", 'x="${var.x}"'),
        ("echo ${var.x:0:-1}", 1, 6, "only a substring", 'x="${var.x}"'),
        ("cat <<${var.x}\na\n${var.x}", 3, 1, "here-document", ""),
        ("echo \"${y:-'${var.x}'}\"", 1, 13, "single quotes inside", 'x="${var.x}"'),
        ("echo ${y/a/${var.x}}", 1, 12, "split into words", "double quotes around"),
        ("echo ${y:=${var.x}}", 1, 11, "split into words", "double quotes around"),
        ("echo `echo \\${var.x}`", 1, 13, "backslash", 'x="${var.x}"'),
        ("echo $'\\${var.x}'", 1, 9, "backslash", 'x="${var.x}"'),
        ("cat <<'A B'\n${var.x}\nA B", 2, 1, "not a plain word", "'END'"),
        ("cat <<'A' |\necho ${var.x}\nA\ncat", 2, 6, "does not understand", 'x="${var.x}"'),
        ("echo ${x: -${var.n}}", 1, 12, "does not understand", 'x="${var.n}"'),
        ("cat <<A <<B\n${var.x}\nA\nb\nB", 2, 1, "does not understand", 'x="${var.x}"'),
        ("a \0", 1, 3, "cannot hold the character", ""),
        ("a\n\udcff", 2, 1, "cannot hold the character", ""),
    ],
)
def test_what_cannot_be_placed_is_refused_at_its_place(
    script: str, line: int, column: int, message: str, hint: str
) -> None:
    with pytest.raises(ShellError) as caught:
        compiled(script)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_where_the_grammar_stumbles_the_other_commands_still_compile() -> None:
    template = "echo ${var.a} \\\n  b\ncat <<A <<B\nx\nA\ny\nB\nif x; then\n  echo '${var.b}'\nfi\n"
    want = template.replace("${var.a}", '"${OJ_V0}"').replace("${var.b}", "'\"${OJ_V1}\"'")
    assert compiled(template).script == want


def test_text_of_other_languages_stays_where_nothing_expands() -> None:
    template = (
        "cat > x.js <<'END'\n`${user.name} ${item.price * 2} ${a}`\nEND\necho '${foo.bar}' # ${x.y}"
    )
    assert compiled(template).script == template


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("echo 'a", 1), ('echo "a\nb', None), ("(echo a", None), ("{ echo a", None), ("echo $(a", None), ("a |", None),
        ("a &&", None), ("a\nb ||\n", None), ("echo >", 1), ("()", 1), ("( )", 1), ("{ }", 1), ("{}", 1), ("a\nb; {}", 2),
        ("cat <<A\nb", None), ("if a; then", None), ("fi", 1), ("echo a\n)\n", 2), ("case a in", None), ("a ;; b", 1),
        ("echo ${a", None), ("x=(1", None), ("f() { }", 1), ("echo ${var.x}\n)", 2), ("&& a", 1), ("for", None),
    ],
)  # fmt: skip
def test_broken_scripts_are_refused(script: str, line: int | None) -> None:
    with pytest.raises(ShellError, match="not a valid bash script") as caught:
        compiled(script)
    assert 1 <= caught.value.line <= script.count("\n") + 1
    assert line in {None, caught.value.line}


def test_messages_of_bash_show_the_placeholder() -> None:
    with pytest.raises(ShellError, match=r"\$\{var\.x\}"):
        compiled("case a in b) ;; esac ${var.x}")


@pytest.mark.parametrize(
    "script",
    [
        "", "# only a comment's apostrophe", "echo a | b && c || d; e\nf", "(a; (b))", "{ a; { b; }; }", "a > b 2>&1 < c >> d",
        "a <<< b", "cat <<A\n'\nA", "A=1 B=2 c $D ${E:-f} $(g) `h`", "a &", "a \\* \\'", "IFS=,; a", "f() { a; }; f",
        "case a in b|c) d ;; *) e ;; esac", "find . -exec rm {} \\;", "echo {} a{b,c}{}", "xargs -I{} cp {} x", "echo $1 \"$@\" $#",
        "for x in a; do b; done | c", 'echo "\\a \\n \\" \\$"', "shopt -s extglob\nrm !(a|b)", "coproc a { b; }", "[[ a =~ ^b$ ]]",
        "while read -r x; do a; done < <(b)", "a() (\nb\n)", "echo '{}' \"{ }\" # {}", "select x in a; do b; done", "time a",
    ],
)  # fmt: skip
def test_what_bash_accepts_is_accepted_as_it_is(script: str) -> None:
    assert compiled(script).script == script


def printed(cage: Path, template: str, values: dict[str, str]) -> str:
    shell = compile_text(template).shell
    assert shell is not None
    assert shell.text == template
    return os.fsdecode(
        run(cage, "set -euo pipefail\n" + shell.script, resolve(shell.bindings, values))
    )


def test_a_text_without_commands_stays_plain() -> None:
    for text in ("", "a ${var.x} $HOME 'b' \"c\"", "run `make` first"):
        assert compile_text(text).shell is None
        assert compile_text(text).text == text


@pytest.mark.parametrize(
    ("template", "want"),
    [
        ("$(echo a)", "a"),
        ("$(echo a)-$(echo b)", "a-b"),
        ("  $(printf 'a\\n\\n')  \n", "  a  \n"),
        (
            "\"quoted\" 'x' `tick` \\ \\n $(echo \")\" ')' \\)) (a)",
            "\"quoted\" 'x' `tick` \\ \\n ) ) ) (a)",
        ),
        ("\\$(no) \\\\ $${var.x} $(echo y)", "$(no) \\ ${var.x} y"),
        ('${var.x}$(printf %s ${var.x} | cat)"${var.x}"', '{x}{x}"{x}"'),
        ("$(case a in a) echo b;; esac)$((1+2))", "b3"),
        ("$(cat <<'E'\n)'\nE\n)!", ")'!"),
        ("a\n$(echo b)\n${NOPE:-c}", "a\nb\nc"),
        ("$(echo $(echo '('))", "("),
    ],
)
def test_a_text_prints_itself_with_its_commands_replaced(
    cage: Path, template: str, want: str
) -> None:
    for value in ("v", "$(pwned) `pwned` \"; pwned; ' \\ \n *", os.fsdecode(b"\xff\x01")):
        assert printed(cage, template, {"var.x": value}) == want.replace("{x}", value)


def test_a_command_that_fails_ends_the_text(tmp_path: Path) -> None:
    shell = compile_text("$(exit 3)$(echo a)").shell
    assert shell is not None
    command = ["bash", "-c", shell.script]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, b"")


@pytest.mark.parametrize(
    ("template", "line", "column"),
    [
        ("a $(b", 1, 3),
        ("a\n b $(echo 'x)", 2, 4),
        ('a\n$(b)\nc $(bash -c "${var.x}")', 3, 14),
        ('"é" ${foo.x} $(a)', 1, 5),
        ("$(a) x ${var.x//y}", 1, 8),
        ("x $(a\0)", 1, 6),
    ],
)
def test_errors_in_a_text_name_its_own_places(template: str, line: int, column: int) -> None:
    with pytest.raises(ShellError) as caught:
        compile_text(template)
    assert (caught.value.line, caught.value.column) == (line, column)


PIECES = [
    "${var.x}", "${name}", "$${", "${", "}", "'", '"', "`", "$(", ")", "((", "))", "{", "\\", "\n", " ", "<<E\n", "\nE\n",
    "<<'E'\n", "<<-E\n\t", "<<<", ">", "|", "&&", ";", "#", "[[ ", " ]]", "a", "x=", "if ", "then ", "fi", "case ", " in ", "esac",
    "${x:-", "${x/", "a[", "]", "$'", '$"', "é", "bash -c ", "eval ",
    "f() ", "declare -i ", "\r", "\x01", "${var.x", "${foo.y}", "!(", "~",
]  # fmt: skip


def refusal(compile_: Callable[[str], object], script: str) -> ShellError | None:
    try:
        compile_(script)
    except ShellError as error:
        return error
    return None


@given(
    script=st.one_of(
        st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
    )
)
@settings(max_examples=200, deadline=None)
def test_any_text_compiles_or_is_refused(script: str) -> None:
    for compile_ in (compiled.__wrapped__, compile_text):
        error = refusal(compile_, script)
        if error is not None:
            lines = script.split("\n")
            assert 1 <= error.line <= len(lines)
            assert 1 <= error.column <= len(lines[error.line - 1]) + 1


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_scripts_compile_or_are_refused(data: st.DataObject) -> None:
    script = data.draw(st.sampled_from([template for template, _ in CONTEXTS] + SECOND_SHELLS))
    at = data.draw(st.integers(0, len(script)))
    end = data.draw(st.integers(at, min(len(script), at + 5)))
    damaged = script[:at] + data.draw(st.sampled_from(["", *PIECES])) + script[end:]
    try:
        shell = compiled.__wrapped__(damaged)
    except ShellError:
        return
    # Whatever compiles refers to every placeholder that it kept, and has no other reference.
    for bound in shell.bindings:
        assert f"${{{bound.env}}}" in shell.script
    left = [found for found in placeholders(shell.script) if found.is_ours]
    assert len(left) <= damaged.count("${")
