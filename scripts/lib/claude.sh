#!/usr/bin/env bash
# Installs the real agent program (npm package @anthropic-ai/claude-code) into .venv-claude for the tests of `-m claude`.
#
#   scripts/lib/claude.sh             installs it if it is not there; prints its path
#   OJ_CLAUDE_VERSION=latest ...      another release than the one that the recordings are of
#
# Rule: nothing outside of the checkout is written, a second call downloads nothing, and a machine without npm or without
# the package registry is told so and is no failure: the tests are then skipped, and say it too.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
version=${OJ_CLAUDE_VERSION:-2.1.197}
folder=$root/.venv-claude
program=$folder/node_modules/.bin/claude
stamp=$folder/oj-stamp

say() { printf '%s\n' "$*" >&2; }

if [ -x "$program" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ] && "$program" --version >/dev/null 2>&1; then
    printf '%s\n' "$program"
    exit 0
fi
if ! command -v npm >/dev/null; then
    say "Claude Code is not installed, because there is no npm: the tests of the real agent are skipped."
    exit 0
fi
say "Installing Claude Code $version into .venv-claude..."
rm -f "$stamp"
mkdir -p "$folder"
if ! npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error \
    "@anthropic-ai/claude-code@$version" >&2; then
    say "Claude Code is not installed, npm's reason stands above: the tests of the real agent are skipped."
    exit 0
fi
if ! "$program" --version >/dev/null; then
    say "Error: Claude Code was installed but does not start: $program --version"
    exit 1
fi
printf '%s\n' "$version" >"$stamp"
printf '%s\n' "$program"
