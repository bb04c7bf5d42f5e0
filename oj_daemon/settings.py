"""Every decision that depends on where we run: profile, paths, limits, colours, tokens.

Rule: the only reader of the environment. Each value is decided once, with the reason kept beside it (`choices()`); nobody
else asks where we are. Cheap to import, because each call of `oj` does: no msgspec, no dataclasses, no pathlib before somebody
asks for a path, and platformdirs only when no variable names the state folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar

from oj_daemon.errors import OjError

TYPE_CHECKING = False  # pathlib costs 4 ms, so only who asks for a path imports it
if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

START_MARKER: Final = "--- oj daemon start"
"""Begins the line of daemon.log that precedes each run; what follows the last one belongs to the newest daemon."""
READY: Final = "READY"
"""The line on stdout that says: the socket answers."""
SERVICE_ACCOUNT_TOKEN: Final = "var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
SERVICE_ACCOUNT_NAMESPACE: Final = "var/run/secrets/kubernetes.io/serviceaccount/namespace"
TCP_PORT: Final = 7777
"""Where a daemon in a cluster listens for `oj` outside of it, as soon as it has a token (kubernetes.md 1)."""
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - in a pod: its Service and the probes of the node come from outside
HERE_ONLY: Final = "127.0.0.1"
HTTP_PORT: Final = 8080
"""Where a daemon in a cluster answers probes and scrapes (kubernetes.md 1)."""
TOKEN_NAME: Final = "OJ_AUTH_TOKEN"  # noqa: S105 - the name of a variable
STEP_TOKEN: Final = "ojs_"  # noqa: S105 - what one begins with
"""How tokens of steps and agents begin."""
STEP_TOKEN_PATTERN: Final = rf"{STEP_TOKEN}[0-9a-f]{{8}}_[a-z0-9-]+_[a-z0-9-]+_[0-9a-f]{{64}}"
"""What one looks like where somebody prints it."""
SOCKET_PATH_LIMIT: Final = 107
"""Bytes that the kernel takes as the path of a unix socket."""

CALLER_NAMES: Final = frozenset({
    "OJ_DAEMON_URL", "OJ_TLS_CA", "OJ_TLS_FINGERPRINT", "OJ_TLS_CLIENT_CERT", "OJ_PROJECT",
    "OJ_JOB_ID", "OJ_STEP", "OJ_STEP_NAME", "OJ_AGENT_ID", "OJ_WORKSPACE",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "TMUX", "TMUX_PANE", "STY", "WINDOW", "OLDPWD", "PWD", "SHLVL", "_",
})  # fmt: skip
"""What belongs to the shell, git hook or step that happened to start the daemon, and to nothing that the daemon runs."""
DAEMON_NAMES: Final = frozenset({
    "OJ_AUTH_TOKEN", "OJ_AUTH_TOKEN_FILE", "OJ_TCP_PORT", "OJ_TCP_BIND", "OJ_HTTP_PORT", "OJ_HTTP_BIND", "OJ_RUNTIME",
    "OJ_TLS", "OJ_TLS_CERT", "OJ_TLS_KEY", "OJ_TLS_CLIENT_CA", "OJ_TLS_NAMES", "OJ_FILE_LOCK", "OJ_NOTIFY_DESKTOP",
    "OJ_NOTIFY_WEBHOOK_URL", "OJ_NOTIFY_WEBHOOK_URL_FILE",
    "OJ_NOTIFY_WEBHOOK_SECRET", "OJ_NOTIFY_WEBHOOK_SECRET_FILE", "OJ_NOTIFY_SEVERITY",
    "OJ_LEASE", "OJ_LEASE_NAME", "OJ_LEASE_DURATION_MS", "OJ_LEASE_RENEW_MS", "OJ_LEASE_RETRY_MS", "OJ_POD_NAME",
    "OJ_K8S_NAMESPACE", "OJ_K8S_KUBECONFIG", "OJ_PROFILE", "OJ_LOG", "OJ_LOG_FORMAT", "OJ_LOG_STDOUT",
    "OJ_K8S_IMAGE", "OJ_K8S_CREDENTIAL_SECRET", "OJ_K8S_SSH_SECRET", "OJ_K8S_GIT_SECRET", "OJ_K8S_GIT_URL",
    "OJ_K8S_PULL_SECRETS", "OJ_K8S_POD_TEMPLATE",
    "OJ_K8S_DAEMON_URL", "OJ_K8S_START_TIMEOUT_MS", "OJ_K8S_MAX_PLACES", "OJ_K8S_CPU_REQUEST", "OJ_K8S_CPU_LIMIT",
    "OJ_K8S_MEMORY_REQUEST", "OJ_K8S_MEMORY_LIMIT", "OJ_K8S_EPHEMERAL_REQUEST", "OJ_K8S_EPHEMERAL_LIMIT",
    "OJ_K8S_CHECKPOINT_MS",
    "OJ_DRAIN_TIMEOUT_MS", "OJ_DRAIN_STEPS", "OJ_TIMER_CHECK_MS",
})  # fmt: skip
"""What is meant for the daemon itself: secrets, and choices that a nested `oj` must not repeat."""


class Profile(StrEnum):
    """Where the daemon runs."""

    WORKSTATION = "workstation"
    CLUSTER = "cluster"


class Secret(Generic[T]):
    """A value that never shows: its repr and str are `***`; `reveal()` at the one place that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself; the caller keeps it out of logs, messages and arguments of processes."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(other._value == self._value)

    __hash__ = None  # type: ignore[assignment]  # a secret in a set or as a key would only be an accident

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not to be written anywhere")


class Choice(NamedTuple):
    """One decision with its reason; same fields as the view that `oj daemon status` shows."""

    name: str
    value: str
    reason: str


class Cluster(NamedTuple):
    """What places in a cluster are made of; each set by `OJ_K8S_<NAME>`."""

    image: str
    """Of places whose runbook names none; it has `oj-sidecar` (target `agent` of the Dockerfile)."""
    credential_secret: str
    """Secret with what agents pay with, one variable a key; empty: none."""
    ssh_secret: str
    """Secret with a deploy key; empty: none."""
    git_secret: str
    """Secret with the user and password, or token, that clones over https are made with; empty: none."""
    git_url: str
    """The git server that it is for."""
    pull_secrets: tuple[str, ...]
    pod_template: str
    """File that is merged into every pod; empty: none."""
    daemon_url: str
    """How an `oj` in a place reaches this daemon; empty: it cannot."""
    resources: tuple[tuple[str, str], ...]
    """cpu_request, memory_limit and so on, as far as they were set."""
    start_timeout_ms: int
    """How long a place may take to come up; not counted while it is gated."""
    max_places: int
    """How many there may be at once; the rest wait in order."""
    checkpoint_ms: int
    """How often what agents have not pushed is saved, together with their conversation."""


class Settings(NamedTuple):
    """Everything decided. Names that end in `_ms` are milliseconds; most are called as their variable is."""

    profile: Profile
    state_folder: str
    """Absolute; `state_dir` is the same as a Path."""

    timeout_ipc_ms: int
    """Longest wait for one read or write of a request."""
    timeout_connect_ms: int
    """Longest wait for a daemon that was just started."""
    timeout_exit_ms: int
    """Longest wait for a daemon that was told to end (on top of its drain), and again after it was killed."""
    connect_poll_ms: int
    """Period of both waits."""
    wait_poll_ms: int
    """Period of `job wait` where it has to poll."""
    run_wait_ms: int
    """How long `oj run` waits for a job to leave pending."""
    log_poll_ms: int
    """Period of following a log."""
    metrics_ms: int
    """Period of the figures about live agents; the variable, OJ_METRICS_INTERVAL_SECS, is in seconds."""
    drain_ms: int
    """How long a daemon that was told to end waits for what is in flight."""
    drain_steps: bool
    """Shell steps are waited for as well: where they end with the daemon, in a container, that may be their last chance."""
    timer_check_ms: int
    idle_grace_ms: int

    file_lock: bool
    """Workstation: one daemon per state folder is kept by a file lock."""
    desktop_notify: bool
    """Workstation: notifications appear on the desktop, where there is one."""
    webhook: Secret[str]
    """URL that notifications are posted to; secret because chat services put the key into the path. Empty: none."""
    webhook_secret: Secret[str]
    """Key of the signature of what is posted; empty: unsigned."""
    notify_severity: str
    """info, warning or critical: the least that is notified by webhook or desktop."""
    log_format: str
    """text or json."""
    log_stdout: bool
    """Log to stdout, and not to `log_path`."""
    log_level: str
    """DEBUG, INFO, WARNING or ERROR."""

    runtime: str
    """auto, local, docker or kubernetes."""
    tcp_port: int | None
    """Port for `oj` on other machines; None: the unix socket only."""
    tcp_bind: str
    """Address that it is bound to."""
    tls: bool
    """TLS on the TCP port; without it the port is plain text, which has to be asked for by name."""
    tls_cert: str
    """File of the daemon's certificate chain (PEM); empty: one is made, signed by the CA of the state folder."""
    tls_key: str
    """File of its private key; empty: it is in the file of the certificate."""
    tls_client_ca: str
    """File of the CA whose certificates clients have to show; empty: none is asked for."""
    tls_names: tuple[str, ...]
    """Further names and addresses for a certificate that is made."""
    http_port: int | None
    """Port of /healthz, /readyz and /metrics; None: off."""
    http_bind: str
    """Address that it is bound to."""
    lease: str
    """on, off or auto: on with the Kubernetes runtime."""
    lease_name: str
    """Name of the Lease that elects one daemon."""
    lease_duration_ms: int
    """How long others respect a Lease that is not renewed."""
    lease_renew_ms: int
    """How long the holder tries to renew it before it gives up and ends."""
    lease_retry_ms: int
    """Period of renewing, and of trying to get it."""
    pod_name: str
    """Who we are to others: OJ_POD_NAME, or the host name."""
    namespace: str
    """Namespace of the Lease and the pods; empty: that of the credentials."""
    kubeconfig: str
    """File with credentials for the cluster; empty: those of the pod's service account."""
    cluster: Cluster

    project: str | None
    """OJ_PROJECT."""
    no_color: bool
    color: bool
    is_dumb_terminal: bool
    """TERM says that it cannot move its cursor."""
    daemon_url: str | None
    """Another daemon than the one of `state_dir`; as given."""
    tls_ca: str
    """File of the CA that has signed that daemon's certificate (PEM); empty: those that the system trusts."""
    tls_fingerprint: str
    """SHA-256 of that daemon's certificate, pinned; lower-case hex without colons; empty: its CA decides."""
    tls_client_cert: str
    """File of the certificate and key that we show to it; empty: none."""
    token: Secret[str]
    """Of the daemon, or for it. Empty when there is none."""
    inherited: Secret[dict[str, str]]
    """The whole environment that we were started with."""

    warnings: tuple[str, ...]
    """Values that were ignored, and why; whoever talks to people shows each once."""
    reasons: tuple[Choice, ...]

    @property
    def state_dir(self) -> Path:
        """Where the daemon keeps everything."""
        from pathlib import Path  # noqa: PLC0415 - see above

        return Path(self.state_folder)

    @property
    def socket_address(self) -> str:
        """Where the daemon listens, as the kernel wants it."""
        return f"{self.state_folder}/daemon.sock"

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens."""
        return self.state_dir / "daemon.sock"

    @property
    def pid_path(self) -> Path:
        """JSON about the daemon that runs."""
        return self.state_dir / "daemon.pid"

    @property
    def version_path(self) -> Path:
        """Version and commit of the daemon that runs."""
        return self.state_dir / "daemon.version"

    @property
    def log_path(self) -> Path:
        """Log of the daemon."""
        return self.state_dir / "daemon.log"

    @property
    def cli_log_path(self) -> Path:
        """One line for each time `oj` could not reach a daemon."""
        return self.state_dir / "cli.log"

    @property
    def restart_lock_path(self) -> Path:
        """Held by the one `oj` that is replacing the daemon."""
        return self.state_dir / "restart.lock"

    def choices(self) -> tuple[Choice, ...]:
        """Every decision with its reason; secrets show as ***."""
        return self.reasons

    def daemon_environ(self) -> dict[str, str]:
        """The environment for a daemon that we start: ours, without what belongs to this shell, hook or step."""
        environ = {
            name: value
            for name, value in self.inherited.reveal().items()
            if name not in CALLER_NAMES
        }
        if self.token.reveal().startswith(STEP_TOKEN):
            # What a step may do is not what opens the daemon that it happens to start.
            environ.pop("OJ_AUTH_TOKEN", None)
            environ.pop("OJ_AUTH_TOKEN_FILE", None)
        environ["OJ_STATE_DIR"] = self.state_folder
        return environ

    @property
    def speaks_json(self) -> bool:
        """Whoever reads what the daemon prints expects one JSON object a line, and nothing beside it."""
        return self.log_stdout and self.log_format == "json"

    def step_environ(self) -> dict[str, str]:
        """The environment for processes that the daemon runs; a nested `oj` in it meets this daemon again."""
        dropped = CALLER_NAMES | DAEMON_NAMES
        environ = {
            name: value for name, value in self.inherited.reveal().items() if name not in dropped
        }
        environ["OJ_STATE_DIR"] = self.state_folder
        return environ


def inherited() -> Secret[dict[str, str]]:
    """The environment of this process, for who has no settings: `oj-sidecar`, and a daemon whose settings are wrong."""
    return Secret(dict(os.environ))  # noqa: TID251 - the one place


def load(environ: Mapping[str, str] | None = None, root: str | os.PathLike[str] = "/") -> Settings:
    """Decide everything from the environment (of this process when not given) and the files below `root`."""
    reader = _Reader(os.environ if environ is None else environ)  # noqa: TID251 - the one place
    profile = _profile(reader)
    cluster = profile is Profile.CLUSTER
    because = f"profile {profile}"
    token = _token(reader)
    log_format, log_stdout = _log_form(reader, cluster=cluster)

    return Settings(
        profile=profile,
        state_folder=_state_folder(reader),
        timeout_ipc_ms=reader.ms(("OJ_TIMEOUT_IPC_MS", "OJ_IPC_TIMEOUT_MS"), 5000),
        timeout_connect_ms=reader.ms(("OJ_TIMEOUT_CONNECT_MS",), 5000),
        timeout_exit_ms=reader.ms(("OJ_TIMEOUT_EXIT_MS",), 2000),
        connect_poll_ms=reader.ms(("OJ_CONNECT_POLL_MS",), 50),
        wait_poll_ms=reader.ms(("OJ_WAIT_POLL_MS",), 1000),
        run_wait_ms=reader.ms(("OJ_RUN_WAIT_MS",), 10_000, least=0),
        log_poll_ms=reader.ms(("OJ_LOG_POLL_MS",), 1000),
        metrics_ms=1000 * reader.ms(("OJ_METRICS_INTERVAL_SECS",), 30),
        drain_ms=reader.ms(
            ("OJ_DRAIN_TIMEOUT_MS",), 25_000 if cluster else 5000, least=0, reason=because
        ),
        drain_steps=_drain_steps(reader, cluster=cluster),
        timer_check_ms=reader.ms(("OJ_TIMER_CHECK_MS",), 1000),
        idle_grace_ms=reader.ms(("OJ_IDLE_GRACE_MS",), 1000, least=0),
        file_lock=reader.flag("OJ_FILE_LOCK", default=not cluster, reason=because),
        desktop_notify=reader.flag("OJ_NOTIFY_DESKTOP", default=not cluster, reason=because),
        webhook=_webhook(reader),
        webhook_secret=reader.secret("OJ_NOTIFY_WEBHOOK_SECRET", "webhook_secret"),
        notify_severity=reader.word(
            "OJ_NOTIFY_SEVERITY", ("info", "warning", "critical"), "info", "default"
        ),
        log_format=log_format,
        log_stdout=log_stdout,
        log_level=reader.word(
            "OJ_LOG", ("debug", "info", "warning", "error"), "info", "default"
        ).upper(),
        runtime=_runtime(reader, root, cluster=cluster),
        tcp_port=_tcp_port(reader, token, cluster=cluster),
        tcp_bind=reader.text("OJ_TCP_BIND", EVERYWHERE if cluster else HERE_ONLY, because),
        tls=reader.flag("OJ_TLS", default=True, reason="default"),
        tls_cert=reader.text("OJ_TLS_CERT", "", "default"),
        tls_key=reader.text("OJ_TLS_KEY", "", "default"),
        tls_client_ca=reader.text("OJ_TLS_CLIENT_CA", "", "default"),
        tls_names=tuple(reader.text("OJ_TLS_NAMES", "", "default").replace(",", " ").split()),
        http_port=reader.port("OJ_HTTP_PORT", HTTP_PORT if cluster else None, because),
        http_bind=reader.text("OJ_HTTP_BIND", EVERYWHERE if cluster else HERE_ONLY, because),
        lease=_lease(reader),
        lease_name=reader.text("OJ_LEASE_NAME", "oj-daemon", "default"),
        lease_duration_ms=reader.ms(("OJ_LEASE_DURATION_MS",), 15_000),
        lease_renew_ms=reader.ms(("OJ_LEASE_RENEW_MS",), 10_000),
        lease_retry_ms=reader.ms(("OJ_LEASE_RETRY_MS",), 2000),
        pod_name=reader.get("OJ_POD_NAME") or reader.get("HOSTNAME") or "",
        namespace=_namespace(reader, root),
        kubeconfig=reader.text("OJ_K8S_KUBECONFIG", "", "default"),
        cluster=_cluster(reader),
        project=reader.get("OJ_PROJECT"),
        no_color=reader.get("NO_COLOR") is not None,
        color=reader.get("COLOR") is not None,
        is_dumb_terminal=reader.get("TERM") in ("dumb", "unknown"),
        daemon_url=reader.get("OJ_DAEMON_URL"),
        tls_ca=reader.get("OJ_TLS_CA") or "",
        tls_fingerprint=(reader.get("OJ_TLS_FINGERPRINT") or "").replace(":", "").lower(),
        tls_client_cert=reader.get("OJ_TLS_CLIENT_CERT") or "",
        token=token,
        inherited=Secret(dict(reader.environ)),
        warnings=tuple(reader.warnings),
        reasons=tuple(reader.reasons),
    )


def log_alone(environ: Mapping[str, str] | None = None) -> Settings:
    """Where the log goes, decided without all the rest: for a daemon whose settings as a whole raise OjError."""
    given = os.environ if environ is None else environ  # noqa: TID251 - the one place
    names = ("KUBERNETES_SERVICE_HOST", "OJ_PROFILE", "OJ_LOG", "OJ_LOG_FORMAT", "OJ_LOG_STDOUT")
    kept = {name: given[name] for name in names if given.get(name)}
    if kept.get("OJ_PROFILE", "").lower() not in tuple(Profile):
        kept.pop("OJ_PROFILE", None)
    return load({**kept, "OJ_STATE_DIR": "/"})


class _Reader:
    """Reads single variables and writes down what was decided; an empty variable counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.warnings: list[str] = []
        self.reasons: list[Choice] = []

    def get(self, name: str) -> str | None:
        return self.environ.get(name) or None

    def warn(self, text: str) -> None:
        """Of how a daemon of this place would be: nothing to whoever talks to one elsewhere, or works for one."""
        if not any(map(self.get, ("OJ_DAEMON_URL", "OJ_JOB_ID", "OJ_AGENT_ID"))):
            self.warnings.append(text)

    def decide(self, name: str, value: T, reason: str, *, shown: str | None = None) -> T:
        self.reasons.append(Choice(name, str(value) if shown is None else shown, reason))
        return value

    def ms(
        self, names: tuple[str, ...], default: int, *, least: int = 1, reason: str = "default"
    ) -> int:
        label = names[0].removeprefix("OJ_").lower()
        for name in names:
            text = self.get(name)
            if text is None:
                continue
            if text.isascii() and text.isdigit() and least <= int(text) < 2**31:
                return self.decide(label, int(text), name)
            self._ignored(name, text, f"a number of milliseconds from {least} up", str(default))
        return self.decide(label, default, reason)

    def count(self, name: str, default: int) -> int:
        label = name.removeprefix("OJ_").lower()
        text = self.get(name)
        if text is None:
            return self.decide(label, default, "default")
        if text.isascii() and text.isdigit() and 0 < int(text) < 2**31:
            return self.decide(label, int(text), name)
        self._ignored(name, text, "a number from 1 up", str(default))
        return self.decide(label, default, "default")

    def word(self, name: str, words: tuple[str, ...], default: str, reason: str) -> str:
        label = name.removeprefix("OJ_").lower()
        text = self.get(name)
        if text is not None and text.lower() in words:
            return self.decide(label, text.lower(), name)
        if text is not None:
            self._ignored(name, text, " or ".join(words), default)
        return self.decide(label, default, reason)

    def flag(self, name: str, *, default: bool, reason: str) -> bool:
        label = name.removeprefix("OJ_").lower()
        text = self.get(name)
        known = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if text is not None and text.lower() in known:
            return self.decide(
                label, known[text.lower()], name, shown="yes" if known[text.lower()] else "no"
            )
        if text is not None:
            self._ignored(name, text, "1 or 0", str(int(default)))
        return self.decide(label, default, reason, shown="yes" if default else "no")

    def text(self, name: str, default: str, reason: str) -> str:
        """Any text; the default is said to be so only where there is one."""
        label = name.removeprefix("OJ_").lower()
        text = self.get(name)
        if text is not None:
            return self.decide(label, text, name)
        return self.decide(label, default, reason) if default else ""

    def secret(self, name: str, label: str) -> Secret[str]:
        """A value that shows as ***, from the variable or from the file that a second variable names."""
        named = self.get(name)
        if named is not None:
            return self.decide(label, Secret(named), name)
        path = self.get(f"{name}_FILE")
        if path is None:
            return self.decide(label, Secret(""), f"{name} is not set", shown="none")
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the same
                text = file.read().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise OjError(
                f"read {name}_FILE: {exc}",
                code="invalid",
                hint="mount the file, or unset the variable",
            ) from exc
        shown = None if text else "none: the file is empty"
        return self.decide(label, Secret(text), f"{name}_FILE", shown=shown)

    def port(self, name: str, default: int | None, reason: str) -> int | None:
        """A number, or `off`."""
        label = name.removeprefix("OJ_").lower()
        text = self.get(name)
        if text is None:
            if default is None:
                return self.decide(label, None, f"{name} is not set", shown="off")
            return self.decide(label, default, reason)
        if text.lower() == "off":
            return self.decide(label, None, name, shown="off")
        if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
            return self.decide(label, int(text), name)
        # Asked for by name, so it works or the daemon ends; carrying on without the port would hide the mistake.
        raise OjError(
            f"{name}={text}: not a port",
            code="invalid",
            hint=f"set {name} to a number from 1 to 65535, or to off",
        )

    def _ignored(self, name: str, text: str, expected: str, used: str) -> None:
        self.warnings.append(f"{name}={text!r} is ignored: expected {expected}; using {used}")


def _profile(reader: _Reader) -> Profile:
    asked = reader.get("OJ_PROFILE")
    if asked is not None:
        if asked.lower() not in tuple(Profile):
            raise OjError(f"OJ_PROFILE={asked}: no such profile", code="invalid",
                          hint=f"set OJ_PROFILE to {' or '.join(Profile)}, or unset it")  # fmt: skip
        return reader.decide("profile", Profile(asked.lower()), "OJ_PROFILE")
    if reader.get("KUBERNETES_SERVICE_HOST") is not None:
        return reader.decide("profile", Profile.CLUSTER, "KUBERNETES_SERVICE_HOST is set")
    return reader.decide("profile", Profile.WORKSTATION, "KUBERNETES_SERVICE_HOST is not set")


def _log_form(reader: _Reader, *, cluster: bool) -> tuple[str, bool]:
    because = f"profile {Profile.CLUSTER if cluster else Profile.WORKSTATION}"
    default = "json" if cluster else "text"
    return (
        reader.word("OJ_LOG_FORMAT", ("text", "json"), default, because),
        reader.flag("OJ_LOG_STDOUT", default=cluster, reason=because),
    )


def _state_folder(reader: _Reader) -> str:
    named = reader.get("OJ_STATE_DIR")
    if named is not None:
        return reader.decide("state_dir", os.path.abspath(named), "OJ_STATE_DIR")  # noqa: PTH100 - pathlib costs 4 ms
    base = reader.get("XDG_STATE_HOME")
    if base is not None and base.startswith("/"):
        return reader.decide("state_dir", os.path.join(base, "oj"), "XDG_STATE_HOME")  # noqa: PTH118 - the same
    if reader.get("HOME") is None:
        raise OjError("could not determine state directory: neither OJ_STATE_DIR nor HOME is set",
                      code="invalid", hint="set OJ_STATE_DIR")  # fmt: skip
    import platformdirs  # noqa: PLC0415 - 6 ms that nobody pays who names the folder

    return reader.decide(
        "state_dir", platformdirs.user_state_dir("oj", appauthor=False), "default of this system"
    )


def _runtime(reader: _Reader, root: str | os.PathLike[str], *, cluster: bool) -> str:
    asked = reader.get("OJ_RUNTIME")
    words = ("auto", "local", "docker", "kubernetes")
    if asked is not None and asked.lower() not in words:
        raise OjError(
            f"OJ_RUNTIME={asked}: no such runtime",
            code="invalid",
            hint=f"set it to {' or '.join(words)}",
        )
    if asked is not None and asked.lower() != "auto":
        return reader.decide("runtime", asked.lower(), "OJ_RUNTIME")
    if not cluster:
        return reader.decide("runtime", "local", "profile workstation")
    if os.path.isfile(os.path.join(root, SERVICE_ACCOUNT_TOKEN)):  # noqa: PTH113, PTH118 - the same
        return reader.decide(
            "runtime", "kubernetes", "credentials of a service account are mounted"
        )
    reader.warn(
        "this is a cluster, but no credentials of a service account are mounted: running everything locally"
    )
    return reader.decide("runtime", "local", "no credentials of a service account are mounted")


def _lease(reader: _Reader) -> str:
    asked = reader.get("OJ_LEASE") or "auto"
    words = ("auto", "on", "off")
    if asked.lower() not in words:
        # Whoever names it counts on it: two daemons would act where `on` was only misspelt.
        raise OjError(
            f"OJ_LEASE={asked}: no such choice",
            code="invalid",
            hint=f"set it to {' or '.join(words)}",
        )
    return reader.word("OJ_LEASE", words, "auto", "default")


def _token(reader: _Reader) -> Secret[str]:
    token = reader.secret("OJ_AUTH_TOKEN", "token")
    if token or reader.get("OJ_DAEMON_URL") is None:
        return token
    base = reader.get("XDG_CONFIG_HOME") or os.path.join(reader.get("HOME") or "/", ".config")  # noqa: PTH118 - see above
    path = os.path.join(base, "oj", "token")  # noqa: PTH118 - the same
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the same
            reader.reasons[-1] = Choice("token", "***", path)
            return Secret(file.read().strip())
    except (OSError, UnicodeDecodeError):
        return token  # the daemon says that one is needed


def _tcp_port(reader: _Reader, token: Secret[str], *, cluster: bool) -> int | None:
    if not cluster:
        return reader.port("OJ_TCP_PORT", None, "")
    if token or reader.get("OJ_TCP_PORT") is not None:
        return reader.port("OJ_TCP_PORT", TCP_PORT, "profile cluster, and there is a token")
    reader.warn(
        "no token is configured (OJ_AUTH_TOKEN): only the unix socket of this pod is open, `oj` outside of it cannot connect"
    )
    return reader.decide("tcp_port", None, "there is no token", shown="off")


def _cluster(reader: _Reader) -> Cluster:
    return Cluster(
        image=reader.text("OJ_K8S_IMAGE", "", "default"),
        credential_secret=reader.text("OJ_K8S_CREDENTIAL_SECRET", "", "default"),
        ssh_secret=reader.text("OJ_K8S_SSH_SECRET", "", "default"),
        git_secret=reader.text("OJ_K8S_GIT_SECRET", "", "default"),
        git_url=reader.text("OJ_K8S_GIT_URL", "", "default"),
        pull_secrets=tuple(
            reader.text("OJ_K8S_PULL_SECRETS", "", "default").replace(",", " ").split()
        ),
        pod_template=reader.text("OJ_K8S_POD_TEMPLATE", "", "default"),
        daemon_url=reader.text("OJ_K8S_DAEMON_URL", "", "default"),
        resources=tuple(
            (name.lower(), value)
            for name in (
                f"{kind}_{end}"
                for kind in ("CPU", "MEMORY", "EPHEMERAL")
                for end in ("REQUEST", "LIMIT")
            )
            if (value := reader.text(f"OJ_K8S_{name}", "", "default"))
        ),
        start_timeout_ms=reader.ms(("OJ_K8S_START_TIMEOUT_MS",), 300_000),
        max_places=reader.count("OJ_K8S_MAX_PLACES", 200),
        checkpoint_ms=reader.ms(("OJ_K8S_CHECKPOINT_MS",), 300_000),
    )


def _drain_steps(reader: _Reader, *, cluster: bool) -> bool:
    if cluster:
        return reader.flag("OJ_DRAIN_STEPS", default=True, reason="profile cluster")
    alone = os.getpid() == 1
    return reader.flag(
        "OJ_DRAIN_STEPS",
        default=alone,
        reason="process 1: what it started ends with it" if alone else "steps outlive the daemon",
    )


def _webhook(reader: _Reader) -> Secret[str]:
    url = reader.secret("OJ_NOTIFY_WEBHOOK_URL", "webhook")
    if url and not url.reveal().startswith(("http://", "https://")):
        raise OjError(
            "OJ_NOTIFY_WEBHOOK_URL: not a URL that can be posted to",
            code="invalid",
            hint="set it to http://... or https://..., or unset it",
        )
    return url


def _namespace(reader: _Reader, root: str | os.PathLike[str]) -> str:
    named = reader.get("OJ_K8S_NAMESPACE")
    if named is not None:
        return reader.decide("namespace", named, "OJ_K8S_NAMESPACE")
    try:
        with open(os.path.join(root, SERVICE_ACCOUNT_NAMESPACE), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - the same
            return reader.decide("namespace", file.read().strip(), "the pod's service account")
    except (OSError, UnicodeDecodeError):
        return ""
