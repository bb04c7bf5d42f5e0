# Sourced by the other scripts: finds Python, and keeps a virtual environment in step with pyproject.toml.
#
# Rule: nothing is downloaded but from the package index, nothing is written outside of the checkout, and a second
# call with an unchanged pyproject.toml touches nothing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Without .pyc files every start of `oj` compiles itself again.
unset PYTHONDONTWRITEBYTECODE
# A leftover from the caller's shell would put another oj in front of this one.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() { printf '%s\n' "$*" >&2; }

# Prints the first Python that is new enough, has venv, and really starts (a pyenv shim may not).
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Error: no Python 3.11 or newer with the venv module was found."
    say "Install one (Debian and Ubuntu: apt-get install python3-venv), or name it: PYTHON=/path/to/python3 $0"
    return 1
}

# ensure_venv NAME WHAT: makes the folder NAME in the checkout and installs WHAT (such as '.[dev]') editable; the path of
# its Python is left in $venv_python.
ensure_venv() {
    local folder=$root/$1 what=$2 python stamp
    venv_python=$folder/bin/python
    python=$(find_python) || return 1
    stamp=$("$python" - "$root" "$what" <<'EOF'
import hashlib, json, pathlib, sys, tomllib
root = pathlib.Path(sys.argv[1])
whole = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
# Only what decides about the installation: a changed lint rule is no reason to install again.
parts = [whole["build-system"], whole["project"], whole["tool"]["hatch"], sys.argv[2], str(root), sys.version]
print(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest())
EOF
    ) || return 1
    if [ -x "$venv_python" ] && [ "$(cat "$folder/oj-stamp" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    say "Setting up $1 with $("$python" --version) (about two minutes the first time)..."
    if [ ! -x "$venv_python" ] || ! "$venv_python" -c 'import pip' 2>/dev/null; then
        "$python" -m venv --clear "$folder" || return 1
    fi
    rm -f "$folder/oj-stamp"
    if ! "$venv_python" -m pip install -qq --disable-pip-version-check --editable "$root${what#.}"; then
        say "Error: installing oj and what it needs into $1 failed; pip's reason stands above."
        return 1
    fi
    printf '%s\n' "$stamp" >"$folder/oj-stamp"
}
