#!/usr/bin/env bash
# A Docker engine for the tests of `-m docker`, on a machine that has none.
#
#   scripts/lib/docker.sh start FOLDER    prints the DOCKER_HOST of the engine that it started in FOLDER; nothing when one
#                                         answers anyway, or when none can be had
#   scripts/lib/docker.sh stop FOLDER     ends that engine with its containers, and removes FOLDER
#
# Rule: everything of the engine is in FOLDER, and a machine that cannot have one (no root, no Debian packages, a sandbox) is
# told so and is no failure: the tests are then skipped, and say it too.
set -uo pipefail

say() { printf '%s\n' "$*" >&2; }

without() {
    say "There is no Docker engine, because $*: the tests of -m docker are skipped."
    exit 0
}

install() {
    local missing=() program
    for program in dockerd mmdebstrap; do
        command -v $program >/dev/null || missing+=("${program/dockerd/docker.io}")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || without "there is no apt-get to install ${missing[*]}"
    say "Installing ${missing[*]}..."
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"; } \
        >"$folder/install.log" 2>&1 || without "apt-get does not install ${missing[*]}: $(tail -n 1 "$folder/install.log")"
}

answers() { timeout 10 docker version >/dev/null 2>&1; }

# Starts the engine with these options; false when it ends, does not answer, or cannot run a container.
begin() {
    say "Starting a Docker engine${*:+ with $*}..."
    setsid dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" "$@" \
        </dev/null >"$folder/log" 2>&1 &
    local engine=$! deadline=$((SECONDS + 30))
    until answers; do
        kill -0 $engine 2>/dev/null || return 1
        [ $SECONDS -lt $deadline ] || { end; return 1; }
        sleep 0.2
    done
    try && return
    end
    return 1
}

# One static program is image enough to see whether cgroups, mounts and namespaces are to be had.
try() {
    local init
    init=$(command -v docker-init) || return 0
    tar -C "$(dirname "$init")" --dereference -c docker-init | timeout 30 docker import - oj-probe >>"$folder/log" 2>&1 &&
        timeout 30 docker run --rm --network none oj-probe /docker-init --version >>"$folder/log" 2>&1
    local code=$?
    docker rmi oj-probe >/dev/null 2>&1
    return $code
}

end() {
    local pid
    pid=$(cat "$folder/pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    local deadline=$((SECONDS + 30))
    while kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
    kill -9 "$pid" 2>/dev/null
    return 0
}

start() {
    answers && { say "A Docker engine answers already."; exit 0; }
    [ "$(id -u)" = 0 ] || without "only root can start one here"
    mkdir -p "$folder"
    install
    answers && { say "The Docker engine of this machine was installed, and answers."; exit 0; }
    export DOCKER_HOST=unix://$folder/docker.sock
    # What sandboxes forbid most often: overlays, and the rules of a network.
    begin || begin --storage-driver=vfs || begin --iptables=false --ip6tables=false --bridge=none ||
        begin --storage-driver=vfs --iptables=false --ip6tables=false --bridge=none ||
        without "dockerd does not work here: $(grep -v level=info "$folder/log" | tail -n 1)"
    printf '%s\n' "$DOCKER_HOST"
}

stop() {
    end
    # What a container had mounted may outlive it where the engine was killed.
    awk -v at="$folder/" 'index($2, at) == 1 { print $2 }' /proc/mounts 2>/dev/null | sort -r |
        while read -r place; do umount -l "$place"; done
    rm -rf "$folder"
}

command=${1:-} folder=${2:-}
case $command,$folder in
    start,/* | stop,/*) $command ;;
    *)
        say "Usage: $0 start|stop FOLDER (an absolute path, and a short one: it holds a Unix socket)"
        exit 2
        ;;
esac
