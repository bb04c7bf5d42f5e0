#!/bin/sh
# The long steps of the Dockerfile, which needs each of them for both of its base images.
#
#   image.sh packages        Debian's packages, unless the base image has them (INSTALL_PACKAGES=0)
#   image.sh dependencies    what pyproject.toml asks for, into the virtual environment /opt/oj; what builds oj, into /build
#   image.sh program WHEEL   oj itself, into /app: its files for the same environment, which is as large as it is rarely changed
#   image.sh agent           an agent program (AGENT_NPM_PACKAGE, if any)
#
# Rule: runs while an image is built and never in a container; plain sh, because bash may not be there yet. What is compiled
# here is valid whatever becomes of the times of files on their way through layers, because nobody can write it later.
set -eu

die() {
    echo "Error: $*" >&2
    exit 1
}

compile() {
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"
}

packages() {
    if [ "$INSTALL_PACKAGES" = 1 ]; then
        python=
        command -v python3 >/dev/null || python="python3 python3-venv"
        apt-get update
        # shellcheck disable=SC2086 # none, or two words
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            bash ca-certificates git openssh-client $python
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
    fi
    for program in bash git python3 ssh; do
        command -v "$program" >/dev/null || die "the base image has no $program: build with INSTALL_PACKAGES=1, or add it"
    done
    # The images of Python come without compiled modules; what Debian has compiled is left as it is.
    python3 -m compileall -q -j 0 -x '/(test|tests|ensurepip|idlelib|lib2to3|turtledemo|site-packages|dist-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
}

dependencies() {
    python3 -m venv /build
    python3 -m venv --without-pip /opt/oj
    /build/bin/python <<'END'
import pathlib, tomllib
needs = tomllib.loads(pathlib.Path("pyproject.toml").read_text("utf-8"))
pathlib.Path("/build/run.txt").write_text("\n".join(needs["project"]["dependencies"]))
pathlib.Path("/build/build.txt").write_text("\n".join(needs["build-system"]["requires"]))
END
    set -- --no-cache-dir --disable-pip-version-check
    /build/bin/pip "$@" --python /opt/oj/bin/python install --no-compile --find-links . -r /build/run.txt
    /build/bin/pip "$@" install --find-links . -r /build/build.txt
    # Not the 50 MB of classes that the Kubernetes client has for each kind of object, and that oj does without.
    compile -x '/kubernetes/(aio/)?client/(api|models)/' /opt/oj/lib
}

program() {
    /build/bin/pip --python /opt/oj/bin/python install --no-compile --no-deps --no-index --no-warn-script-location \
        --root /app "$1"
    compile /app/opt/oj/lib
    mkdir -p /app/usr/local/bin
    for name in oj oj-sidecar; do
        ln -s "/opt/oj/bin/$name" "/app/usr/local/bin/$name"
    done
}

agent() {
    [ -n "${AGENT_NPM_PACKAGE:-}" ] || return 0
    command -v npm >/dev/null || die "AGENT_NPM_PACKAGE needs npm: build with AGENT_BASE_IMAGE=node:22-bookworm-slim, or one like it"
    npm install --global --no-audit --no-fund --loglevel=error "$AGENT_NPM_PACKAGE"
    rm -rf "$HOME/.npm"
}

"$@"
