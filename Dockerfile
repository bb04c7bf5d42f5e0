# The images of oj, built from a context without `.git`:
#
#   docker build --target daemon --build-arg BUILD_GIT_HASH=$(git rev-parse HEAD) -t oj-daemon .
#   docker build --target agent --build-arg BUILD_GIT_HASH=$(git rev-parse HEAD) -t oj-agent .
#
# `daemon` runs `oj daemon` and has no agent program. `agent` runs `oj-sidecar`; with Claude Code in it:
#
#   docker build --target agent --build-arg BUILD_GIT_HASH=$(git rev-parse HEAD) -t oj-agent-claude \
#       --build-arg AGENT_BASE_IMAGE=node:22-bookworm-slim --build-arg AGENT_NPM_PACKAGE=@anthropic-ai/claude-code .
#
# Where packages come from is not written here. Debian's come from the sources in the base image; INSTALL_PACKAGES=0 when it has
# them already. Python's come from where pip is told by its variables, as build arguments, which stay in stages that are not
# shipped; without any index, from ./wheelhouse:
#
#   python3 -m pip download -d wheelhouse . 'hatchling>=1.26'
#   docker build --target daemon --network none --build-arg PIP_NO_INDEX=1 --build-arg INSTALL_PACKAGES=0 \
#       --build-arg BASE_IMAGE=... .
#
# Rule: no instruction that only BuildKit knows, and nothing is fetched for the Dockerfile itself: engines without either build it.

# Debian or one like it, with Python 3.11 or newer, or with that among its packages.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG AGENT_BASE_IMAGE=${BASE_IMAGE}

# -- the wheel, and the virtual environment that the daemon runs in ------------------------------------------------------

FROM ${BASE_IMAGE} AS daemon-base
ARG INSTALL_PACKAGES=1
COPY scripts/lib/image.sh /build/
RUN /build/image.sh packages

FROM daemon-base AS daemon-dependencies
ARG PIP_CERT
ARG PIP_EXTRA_INDEX_URL
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_TRUSTED_HOST
WORKDIR /src
# The files in the folder, if there is one, lie beside pyproject.toml then.
COPY pyproject.toml wheelhouse* ./
RUN /build/image.sh dependencies

FROM daemon-dependencies AS build
ARG BUILD_GIT_HASH=unknown
COPY . .
RUN /build/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /dist .

FROM daemon-dependencies AS daemon-program
COPY --from=build /dist /dist
RUN /build/image.sh program /dist/*.whl

# -- the same environment for the agent, whose base image may have another Python; one step if the images are the same ---

FROM ${AGENT_BASE_IMAGE} AS agent-base
ARG INSTALL_PACKAGES=1
COPY scripts/lib/image.sh /build/
RUN /build/image.sh packages

FROM agent-base AS agent-dependencies
ARG PIP_CERT
ARG PIP_EXTRA_INDEX_URL
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_TRUSTED_HOST
WORKDIR /src
COPY pyproject.toml wheelhouse* ./
RUN /build/image.sh dependencies

FROM agent-dependencies AS agent-program
COPY --from=build /dist /dist
RUN /build/image.sh program /dist/*.whl

# -- agent: a sidecar, for one agent ---------------------------------------------------------------------------------------

FROM agent-base AS agent
ARG AGENT_NPM_PACKAGE
ARG NPM_CONFIG_REGISTRY
RUN /build/image.sh agent && rm -r /build \
    && groupadd --gid 65532 oj \
    && useradd --uid 65532 --gid 65532 --home-dir /home/oj --create-home --shell /bin/bash oj \
    && install -d -o 65532 -g 65532 -m 0755 /workspace
COPY --from=agent-dependencies /opt/oj /opt/oj
COPY --from=agent-program /app /
ENV HOME=/home/oj
WORKDIR /workspace
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["oj-sidecar"]
ARG BUILD_GIT_HASH=unknown
LABEL org.opencontainers.image.title="oj-agent" \
      org.opencontainers.image.description="oj-sidecar, which runs one coding agent for an oj daemon" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${BUILD_GIT_HASH}"

# -- daemon: last, so that it is what a build without --target makes ---------------------------------------------------------

FROM daemon-base AS daemon
# Git and ssh of steps that the daemon runs itself look for their files at home, and nothing but the volume can be written.
RUN rm -r /build \
    && groupadd --gid 65532 oj \
    && useradd --uid 65532 --gid 65532 --home-dir /var/lib/oj --no-create-home --shell /bin/bash oj \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/oj
COPY --from=daemon-dependencies /opt/oj /opt/oj
COPY --from=daemon-program /app /
# A container's log is its stdout, and there is no desktop to notify. In a cluster both are so anyway.
ENV HOME=/var/lib/oj \
    OJ_STATE_DIR=/var/lib/oj \
    OJ_LOG_STDOUT=1 \
    OJ_NOTIFY_DESKTOP=0
VOLUME /var/lib/oj
WORKDIR /var/lib/oj
USER 65532:65532
STOPSIGNAL SIGTERM
# Asks what costs least: the HTTP port where one is named, else the socket. Kubernetes has probes of its own and ignores this.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["bash", "-euc", \
    "case ${OJ_HTTP_PORT:-off} in \
        [1-9]*) exec 3<>/dev/tcp/${OJ_HTTP_BIND:-127.0.0.1}/$OJ_HTTP_PORT; \
                printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3; \
                read -r _ code _ <&3; [ \"$code\" = 200 ] ;; \
        *) [[ $(oj daemon status -o json) =~ '\"status\": \"running\"' ]] ;; \
    esac"]
ENTRYPOINT ["oj", "daemon"]
ARG BUILD_GIT_HASH=unknown
LABEL org.opencontainers.image.title="oj-daemon" \
      org.opencontainers.image.description="The daemon of oj: runs jobs of shell steps and coding agents" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${BUILD_GIT_HASH}"
