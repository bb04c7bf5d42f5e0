"""Roadmap items 2, 5, 6, 7, 11, 12, 13, 14, 16 and 17 (system.md 4): for each a table of situations and what must be true in them.

Short and complete: what a row says is shown by a real daemon where it is about behaviour, and by value where it is about settings,
the image or the manifest. Where a longer scenario exists, the docstring of the table names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest
import trustme

import hatch_build
from oj_daemon import __version__, build, settings
from oj_daemon.errors import OjError
from oj_daemon.manifest.objects import objects
from oj_daemon.manifest.options import Options
from oj_daemon.settings import READY, SERVICE_ACCOUNT_TOKEN, Secret
from oj_daemon.store import lock
from oj_daemon.wire.client import Client
from tests.support.fake_daemon import FakeDaemon
from tests.support.far import TOKEN, Far
from tests.support.kube.process import KubeProcess
from tests.support.probes import ask, free_port, unmet
from tests.support.receiver import Answer, Receiver
from tests.support.replies import reply
from tests.support.sidecar import Sidecar, sidecar
from tests.support.waiting import until
from tests.support.world import ROOT, World, ran

SECONDS = 60.0
POD = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "OJ_HTTP_BIND": "127.0.0.1",
    "OJ_TCP_BIND": "127.0.0.1",
}
QUIET = {**POD, "OJ_HTTP_PORT": "off", "OJ_LEASE": "off", "OJ_RUNTIME": "local"}
"""A pod that opens no port."""
outside_of_a_cluster = pytest.mark.skipif(
    Path("/", SERVICE_ACCOUNT_TOKEN).exists(), reason="here are credentials of a cluster"
)


class Daemon:
    """A daemon in the foreground, as a pod has it; by default `oj daemon`."""

    def __init__(
        self, world: World, environ: Mapping[str, str], name: str = "daemon", code: str = ""
    ) -> None:
        self.environ = {**world.environ, **environ, "OJ_POD_NAME": name}
        self.out, self.err = world.folder / f"{name}.out", world.folder / f"{name}.err"
        words = ["-c", code] if code else ["-m", "oj_cli", "daemon"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=world.project,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def call(self, type: str, **fields: Any) -> dict[str, Any]:  # noqa: A002 - the wire's word
        with Client(settings.load(self.environ)) as client:
            return client.call(type, **fields)

    def ready(self) -> dict[str, Any]:
        """Wait until it is the one that answers; its status."""
        found: dict[str, Any] = {}

        def answers() -> bool:
            assert self.process.poll() is None, self.out.read_text() + self.err.read_text()
            with contextlib.suppress(OjError):
                found.update(self.call("DaemonStatus"))
            return found.get("pid") == self.process.pid

        until(answers, SECONDS, "the daemon answers", 0.05)
        return found

    def records(self) -> list[dict[str, Any]]:
        """Its log: one JSON object a line."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def says(self, text: str) -> None:
        until(lambda: text in self.out.read_text(), SECONDS, self.out.read_text)

    def term(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)


@contextlib.contextmanager
def a_world() -> Iterator[World]:
    """A user for the rows of one table."""
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    world = World(folder)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(world: World, environ: Mapping[str, str], **options: str) -> Iterator[Daemon]:
    daemon = Daemon(world, environ, **options)
    try:
        yield daemon
    finally:
        daemon.kill()


def choices(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Value and reason by name."""
    return {each["name"]: (each["value"], each["reason"]) for each in status["settings"]}


# -- 2: detection at startup -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable", "here", "pod", "asked", "chosen"),
    [
        ("profile", "OJ_PROFILE", "workstation", "cluster", "cluster", "cluster"),
        ("runtime", "OJ_RUNTIME", "local", "kubernetes", "docker", "docker"),
        ("file_lock", "OJ_FILE_LOCK", "yes", "no", "on", "yes"),
        ("file_lock", "OJ_FILE_LOCK", "yes", "no", "off", "no"),
        ("notify_desktop", "OJ_NOTIFY_DESKTOP", "yes", "no", "1", "yes"),
        ("notify_desktop", "OJ_NOTIFY_DESKTOP", "yes", "no", "0", "no"),
        ("log_format", "OJ_LOG_FORMAT", "text", "json", "json", "json"),
        ("log_format", "OJ_LOG_FORMAT", "text", "json", "text", "text"),
        ("log_stdout", "OJ_LOG_STDOUT", "no", "yes", "1", "yes"),
        ("log_stdout", "OJ_LOG_STDOUT", "no", "yes", "0", "no"),
        ("tcp_port", "OJ_TCP_PORT", "off", "7777", "7000", "7000"),
        ("tcp_port", "OJ_TCP_PORT", "off", "7777", "off", "off"),
        ("tcp_bind", "OJ_TCP_BIND", "127.0.0.1", "0.0.0.0", "10.1.1.1", "10.1.1.1"),
        ("tls", "OJ_TLS", "yes", "yes", "off", "no"),
        ("http_port", "OJ_HTTP_PORT", "off", "8080", "9000", "9000"),
        ("http_port", "OJ_HTTP_PORT", "off", "8080", "off", "off"),
        ("http_bind", "OJ_HTTP_BIND", "127.0.0.1", "0.0.0.0", "10.1.1.1", "10.1.1.1"),
        ("lease", "OJ_LEASE", "auto", "auto", "on", "on"),
        ("lease", "OJ_LEASE", "auto", "auto", "off", "off"),
        ("drain_timeout_ms", "OJ_DRAIN_TIMEOUT_MS", "5000", "25000", "100", "100"),
        ("drain_steps", "OJ_DRAIN_STEPS", "no", "yes", "1", "yes"),
        ("drain_steps", "OJ_DRAIN_STEPS", "no", "yes", "0", "no"),
    ],
)
def test_item_2_each_choice_is_made_by_where_we_are_and_overridden_by_its_own_variable(
    tmp_path: Path, name: str, variable: str, here: str, pod: str, asked: str, chosen: str
) -> None:
    """By value: on a workstation, in a pod with credentials and a token, and in both with the variable."""
    credentials = tmp_path / SERVICE_ACCOUNT_TOKEN
    credentials.parent.mkdir(parents=True)
    credentials.write_text("t")
    workstation = {"OJ_STATE_DIR": "/s", "OJ_AUTH_TOKEN": "t"}
    cluster = {**workstation, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    for expected, environ in ((here, workstation), (pod, cluster)):
        (made,) = [c for c in settings.load(environ, tmp_path).choices() if c.name == name]
        assert made.value == expected
        assert made.reason not in ("", variable)
        overridden = settings.load({**environ, variable: asked}, tmp_path)
        (made,) = [c for c in overridden.choices() if c.name == name]
        assert (made.value, made.reason) == (chosen, variable)


@pytest.fixture(scope="module")
def fallen() -> Iterator[tuple[Daemon, World]]:
    """A pod in which nothing that `auto` would like is to be had: no credentials, no token, the port is taken."""
    with contextlib.ExitStack() as opened:
        world = opened.enter_context(a_world())
        # The port that the profile chooses is taken: by us, or by somebody else already.
        with contextlib.suppress(OSError):
            opened.enter_context(socket.create_server(("127.0.0.1", settings.HTTP_PORT)))
        daemon = opened.enter_context(running(world, POD))
        daemon.ready()
        yield daemon, world


@outside_of_a_cluster
@pytest.mark.parametrize(
    ("warning", "choice"),
    [
        (
            "no credentials of a service account are mounted: running everything locally",
            "runtime=local (no credentials of a service account are mounted)",
        ),
        ("no token is configured (OJ_AUTH_TOKEN)", "tcp_port=off (there is no token)"),
        ("port 8080 for probes and metrics", "http_port=8080 (profile cluster)"),
    ],
)
def test_item_2_auto_falls_back_with_a_warning_that_everyone_sees(
    fallen: tuple[Daemon, World], warning: str, choice: str
) -> None:
    """Fallback of the Lease, which needs credentials first: tests/oj_daemon/test_tenure.py."""
    daemon, world = fallen
    first = daemon.records()[0]["message"]
    assert first.startswith(f"oj daemon {build.identity()}, protocol ")
    assert choice in first
    logged = [each["message"] for each in daemon.records() if each["level"] == "warning"]
    assert [text for text in logged if warning in text]
    shown = world.oj("daemon", "status", environ=POD)
    assert warning in shown.err
    told = world.oj("daemon", "status", "-o", "json", environ=POD).json
    assert [text for text in told["warnings"] if warning in text]
    name, _, rest = choice.partition("=")
    assert choices(told)[name] == tuple(rest.removesuffix(")").split(" (", 1))


@pytest.mark.parametrize(
    "who",
    [{"OJ_DAEMON_URL": "tls://127.0.0.1:1"}, {"OJ_JOB_ID": "job-1"}, {"OJ_AGENT_ID": "agt-1"}],
)
def test_item_2_a_client_in_a_cluster_is_not_warned_of_a_daemon_that_it_is_not(
    world: World, who: dict[str, str]
) -> None:
    """A step or an agent in a pod, and `oj` there that talks to a daemon elsewhere."""
    assert "Warning" not in world.oj("job", "list", code=1, environ={**POD, **who}).err


@outside_of_a_cluster
@pytest.mark.parametrize("place", ["pod", "workstation"])
def test_item_2_status_and_the_first_log_line_show_every_choice_with_its_reason(
    fallen: tuple[Daemon, World], world: World, place: str
) -> None:
    """Who holds the Lease is decided after the first line of a pod, and in a line of its own: test_lease.py."""
    if place == "pod":
        daemon, world = fallen
        first, environ = daemon.records()[0]["message"], POD
    else:
        world.oj("daemon", "start")
        first, environ = (world.state / "daemon.log").read_text().splitlines()[1], {}
    told = choices(world.oj("daemon", "status", "-o", "json", environ=environ).json)
    shown = re.sub(r"\s+", " ", world.oj("daemon", "status", environ=environ).out)
    decided = settings.load({**world.environ, **environ}).choices()
    assert {choice.name for choice in decided} <= set(told)
    assert {"profile", "runtime", "file_lock", "log_format", "tcp_port", "http_port"} <= set(told)
    for name, (value, reason) in told.items():
        assert reason
        assert f"{name} {value} ({reason})" in shown or f"{name} {value} {reason}" in shown
        if name != "lease_holder":
            assert f"{name}={value} ({reason})" in first


@pytest.fixture(scope="module")
def named() -> Iterator[tuple[Daemon, World, KubeProcess]]:
    """A pod in which everything is asked for by name, and to be had."""
    with a_world() as world:
        kube = KubeProcess(world.folder)
        environ = {
            **POD,
            "OJ_RUNTIME": "local",
            "OJ_AUTH_TOKEN": TOKEN,
            "OJ_TCP_PORT": str(free_port()),
            "OJ_HTTP_PORT": str(free_port()),
            "OJ_LEASE": "on",
            "OJ_K8S_KUBECONFIG": str(kube.kubeconfig),
        }
        try:
            with running(world, environ) as daemon:
                daemon.ready()
                yield daemon, world, kube
        finally:
            kube.close()


@pytest.mark.parametrize("variable", ["OJ_RUNTIME", "OJ_TCP_PORT", "OJ_HTTP_PORT", "OJ_LEASE"])
def test_item_2_what_is_asked_for_by_name_works(
    named: tuple[Daemon, World, KubeProcess], variable: str
) -> None:
    daemon, world, kube = named
    status = daemon.ready()
    name, value = variable.removeprefix("OJ_").lower(), daemon.environ[variable]
    assert choices(status)[name] == (value, variable)
    assert f"{name}={value} ({variable})" in daemon.records()[0]["message"]
    assert status["warnings"] == []
    match variable:
        case "OJ_RUNTIME":
            world.job('step "a" { run = "echo here" }')
            assert ran(world.run("build", environ=daemon.environ)) == ["a completed"]
        case "OJ_TCP_PORT":
            far = {
                "OJ_DAEMON_URL": f"tls://127.0.0.1:{value}",
                "OJ_AUTH_TOKEN": TOKEN,
                "OJ_TLS_FINGERPRINT": status["tls_fingerprint"],
            }
            told = world.oj("daemon", "status", "-o", "json", environ=far).json
            assert told["pid"] == status["pid"]
        case "OJ_HTTP_PORT":
            assert ask(int(value), "/readyz")[0] == 200
        case _:
            assert kube.lease()["spec"]["holderIdentity"].startswith("daemon_")
            assert choices(status)["lease_holder"][0].startswith("daemon_")


@outside_of_a_cluster
@pytest.mark.parametrize(
    ("environ", "cause"),
    [
        ({"OJ_RUNTIME": "kubernetes", "OJ_LEASE": "off"}, "OJ_RUNTIME=kubernetes: "),
        ({"OJ_RUNTIME": "docker"}, "OJ_RUNTIME=docker: "),
        ({"OJ_RUNTIME": "nomad"}, "OJ_RUNTIME=nomad: no such runtime"),
        ({"OJ_TCP_PORT": "7777"}, "OJ_TCP_PORT=7777: without a token anybody could connect"),
        ({"OJ_TCP_PORT": "TAKEN", "OJ_AUTH_TOKEN": TOKEN}, "listen on 127.0.0.1:"),
        ({"OJ_TCP_PORT": "imap"}, "OJ_TCP_PORT=imap: not a port"),
        (
            {"OJ_TCP_PORT": "7777", "OJ_AUTH_TOKEN": TOKEN, "OJ_TLS_CERT": "/no/cert"},
            "use the certificate /no/cert: No such file",
        ),
        ({"OJ_AUTH_TOKEN_FILE": "/no/token"}, "read OJ_AUTH_TOKEN_FILE: "),
        ({"OJ_HTTP_PORT": "TAKEN"}, "listen on 127.0.0.1 port "),
        ({"OJ_HTTP_PORT": "99999"}, "OJ_HTTP_PORT=99999: not a port"),
        ({"OJ_LEASE": "on"}, "OJ_LEASE=on: load credentials for the cluster"),
        ({"OJ_LEASE": "yes"}, "OJ_LEASE=yes: no such choice"),
        ({"OJ_PROFILE": "moon"}, "OJ_PROFILE=moon: no such profile"),
        ({"OJ_NOTIFY_WEBHOOK_URL": "chat"}, "OJ_NOTIFY_WEBHOOK_URL: not a URL"),
    ],
)
def test_item_2_what_is_asked_for_by_name_and_cannot_be_ends_the_daemon_with_the_cause_in_one_line(
    world: World, environ: dict[str, str], cause: str
) -> None:
    """On a workstation the same is told on stderr: test_daemon.py, test_remote.py, test_health.py."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        asked = {name: value.replace("TAKEN", port) for name, value in environ.items()}
        with running(world, {**POD, "OJ_HTTP_PORT": "off", **asked}) as daemon:
            assert daemon.process.wait(SECONDS) == 1
    last = daemon.records()[-1]
    assert last["message"].startswith(cause)
    assert (last["level"], bool(last["hint"])) == ("critical", True)
    assert [each["level"] for each in daemon.records()].count("critical") == 1
    assert daemon.err.read_text() == ""
    assert not (world.state / "daemon.sock").exists()


@pytest.mark.parametrize(
    ("environ", "cause"),
    [
        ({**QUIET, "OJ_TCP_PORT": "7777"}, "without a token anybody could connect"),
        ({**QUIET, "OJ_TCP_PORT": "imap"}, "OJ_TCP_PORT=imap: not a port"),
        ({"OJ_TCP_PORT": "7777"}, "without a token anybody could connect"),
    ],
    ids=["pod", "pod with a wrong setting", "workstation"],
)
def test_item_2_whoever_starts_it_in_the_background_is_told_the_cause_too(
    world: World, environ: dict[str, str], cause: str
) -> None:
    refused = world.oj("daemon", "start", code=1, environ=environ)
    assert refused.err.count(cause) == 1
    assert "Hint: " in refused.err
    assert "Traceback" not in refused.err


# -- 5: build identity -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages without `.git`, as they lie in an image."""
    folder = tmp_path_factory.mktemp("copied")
    for name in ("oj_cli", "oj_daemon"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_build.py")
        )
    return folder


GIVEN = "0123456789abcdef0123456789abcdef01234567"
BAKED = "fedcba987654"
HEAD = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("has_git", "given", "baked", "expected"),
    [
        (True, "", "", HEAD[:12]),
        (False, GIVEN, "", GIVEN[:12]),
        (False, GIVEN.upper(), BAKED, GIVEN[:12]),
        (False, "", BAKED, BAKED),
        (False, "unknown", "", "unknown"),
        (False, "", "", "unknown"),
    ],
    ids=["checkout", "build argument", "argument and sdist", "sdist", "said unknown", "nothing"],
)
def test_item_5_a_build_names_its_commit_as_far_as_it_can_be_known(
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_git: bool,
    given: str,
    baked: str,
    expected: str,
) -> None:
    """Real wheels and sdists: tests/test_packaging.py; real images: tests/docker/test_image.py."""
    written = copied / hatch_build.TARGET
    git = copied / ".git"
    try:
        if has_git:
            git.mkdir()
            (git / "HEAD").write_text(HEAD)
        if baked:
            written.write_text(hatch_build.TEMPLATE.format(hash=baked))
        monkeypatch.setenv("BUILD_GIT_HASH", given)
        found = hatch_build.git_hash(copied)
        shutil.rmtree(git, ignore_errors=True)
        written.write_text(hatch_build.TEMPLATE.format(hash=found))
        said = subprocess.run(
            [sys.executable, "-B", "-m", "oj_cli", "--version"],
            cwd=copied,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(copied)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout == f"oj {__version__}+{expected}\n"
    finally:
        shutil.rmtree(git, ignore_errors=True)
        written.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "asked",
    [
        "oj --version",
        "oj -v",
        "oj daemon --version",
        "oj-sidecar --version",
        "daemon.version",
        "status",
        "first log line",
        "metrics",
    ],
)
def test_item_5_everyone_says_the_same_version_and_commit(
    named: tuple[Daemon, World, KubeProcess], asked: str
) -> None:
    daemon, world, _ = named
    head = build.read_git_hash(ROOT)
    identity = f"{__version__}+{build.build_hash()}"
    assert head is None or identity.endswith(f"+{head}")
    match asked.split():
        case ["oj", *words]:
            told = world.oj(*words, environ=POD).out
        case ["oj-sidecar", word]:
            words = [sys.executable, "-m", "oj_daemon.sidecar.main", word]
            told = subprocess.run(
                words, env=world.environ, capture_output=True, text=True, check=True
            ).stdout
        case ["daemon.version"]:
            told = (world.state / "daemon.version").read_text()
        case ["status"]:
            told = daemon.ready()["version"]
        case ["metrics"]:
            told = ask(int(daemon.environ["OJ_HTTP_PORT"]), "/metrics")[1]
            assert f'oj_build_info{{version="{identity}"}} 1.0' in told
        case _:
            told = daemon.records()[0]["message"]
    assert identity in told


# -- 6: image --------------------------------------------------------------------------------------------------------------


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, one a line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if match := re.fullmatch(r"FROM \S+ AS (\S+)", line):
            current = found.setdefault(match[1], [])
        if line and not line.startswith("#"):
            current.append(re.sub(r"\s+", " ", line))
    return found


def behind(target: str) -> str:
    """Every instruction that a target is made of, those of the stages that it takes from included."""
    all_of_them, text, due, done = stages(), "", [target], set[str]()
    while due:
        name = due.pop()
        if name in done or name not in all_of_them:
            continue
        done.add(name)
        text += "\n".join(all_of_them[name]) + "\n"
        due += re.findall(r"(?:^FROM |--from=)(\S+)", "\n".join(all_of_them[name]), re.MULTILINE)
    return text


@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ("daemon", "USER 65532:65532"),
        ("daemon", "OJ_STATE_DIR=/var/lib/oj"),
        ("daemon", "VOLUME /var/lib/oj"),
        ("daemon", 'ENTRYPOINT ["oj", "daemon"]'),
        ("daemon", "STOPSIGNAL SIGTERM"),
        ("daemon", "HEALTHCHECK "),
        ("agent", "USER 65532:65532"),
        ("agent", 'ENTRYPOINT ["oj-sidecar"]'),
        ("agent", "STOPSIGNAL SIGTERM"),
    ],
)
def test_item_6_one_dockerfile_has_both_targets_which_say_how_they_run(
    target: str, instruction: str
) -> None:
    """Both images, built and run read-only and not as root: tests/docker/test_image.py and test_daemon.py."""
    assert [line for line in stages()[target] if instruction in line]


@pytest.mark.parametrize(
    ("target", "contains", "not_at_all"),
    [
        ("daemon", "BASE_IMAGE", "AGENT_"),
        ("daemon", "BUILD_GIT_HASH", "npm"),
        ("agent", "AGENT_BASE_IMAGE", ".git "),
        ("agent", "AGENT_NPM_PACKAGE", "claude"),
    ],
)
def test_item_6_base_images_are_arguments_and_only_the_agent_gets_an_agent(
    target: str, contains: str, not_at_all: str
) -> None:
    assert contains in behind(target)
    assert not_at_all not in behind(target)


@pytest.mark.parametrize("package", ["git", "bash", "openssh-client", "ca-certificates"])
def test_item_6_the_daemon_image_has_what_it_calls(package: str) -> None:
    script = (ROOT / "scripts" / "lib" / "image.sh").read_text()
    installed = re.search(r"apt-get install -y --no-install-recommends \\\n(.*)", script)
    assert installed is not None
    assert package in installed[1].split()
    assert "RUN /build/image.sh packages" in behind("daemon")


MANIFEST = Options(image="oj-daemon:1", token=Secret("a-token-of-the-tests"), drain_seconds=40)


def daemon_pod() -> dict[str, Any]:
    (found,) = [each for each in objects(MANIFEST) if each["kind"] == "StatefulSet"]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("about", ["user", "state folder", "read-only root", "temporary folder"])
def test_item_6_the_manifest_runs_the_image_as_it_was_made(about: str) -> None:
    """Against the restricted profile and the types of Kubernetes: tests/oj_daemon/manifest/test_objects.py."""
    spec = daemon_pod()
    (container,) = spec["containers"]
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    match about:
        case "user":
            user = spec["securityContext"]
            assert (user["runAsNonRoot"], user["runAsUser"], user["fsGroup"]) == (True, 65532, 65532)  # fmt: skip
        case "state folder":
            assert "/var/lib/oj" in mounts
        case "read-only root":
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        case _:
            assert {"emptyDir"} <= {
                key for each in spec["volumes"] if each["name"] == mounts["/tmp"] for key in each
            }


# -- 7: no repository in the daemon ----------------------------------------------------------------------------------------


def request_of(world: World, command: str) -> dict[str, Any]:
    """What `oj run` asks of a daemon on another machine."""
    authority, ca = trustme.CA(), world.folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    started = {"job_id": "job-4f9h2k7m1n3p5q8r", "name": "x", "kind": command, "status": "pending"}
    with contextlib.closing(FakeDaemon(world.folder / "fake", context)) as fake:
        fake.answer("RunCommand", reply("JobStarted", **started))
        fake.start()
        far = {"OJ_DAEMON_URL": f"tls://127.0.0.1:{fake.port}", "OJ_TLS_CA": str(ca)}
        world.oj("run", "--detach", command, environ={**far, "OJ_AUTH_TOKEN": TOKEN})
        (request,) = fake.of("RunCommand")
    return request


@pytest.fixture(scope="module")
def travelled() -> Iterator[dict[str, Any]]:
    """What became of three jobs of a caller on another machine, seen at each station; git of the daemon is listened to."""
    with a_world() as world:
        seen: dict[str, Any] = {}
        shared = world.folder / "shared"
        world.git("init", "-q", "--bare", str(shared))
        world.git_project()
        world.git("tag", "v1")
        (world.project / "README").write_text("news\n")
        world.git("commit", "-qam", "news")
        world.git("remote", "add", "origin", f"file://somebody:secret@{shared}")
        world.git("push", "-q", f"file://{shared}", "main", "v1")
        body = 'step "a" { run = "cat README; git branch --show-current" }'
        sources = {
            "folder": "",
            "git": "source { git = true }\n",
            "ref": 'source {\n  git    = true\n  branch = "fix"\n  ref    = "v1"\n}\n',
        }
        for name, source in sources.items():
            world.job(source + body, command=name, name=f"{name}.hcl")

        seen["request"] = request_of(world, "ref")

        words = world.folder / "words"
        wrapper = world.folder / "bin" / "git"
        wrapper.parent.mkdir()
        real = shutil.which("git")
        wrapper.write_text(f'#!/bin/sh\necho "$PWD: $*" >>{words}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
        asked = dict(world.environ)
        world.environ["PATH"] = f"{wrapper.parent}:{world.environ['PATH']}"
        far = Far(world)
        world.environ["PATH"] = asked["PATH"]
        try:
            for name in sources:
                job = world.run(name)
                seen[name] = {"job": job, "log": world.log(job["id"])}
        finally:
            far.close()
        seen["calls"] = words.read_text().splitlines()
        lines = b"".join(path.read_bytes() for path in (world.state / "wal").iterdir()).splitlines()
        records = [json.loads(line.split(b" ", 2)[2]) for line in lines]
        facts = [fact for record in records for fact in record.get("facts", ())]
        for fact in facts:
            if fact["type"] == "workspace:created":
                (kind,) = [k for k in sources if seen[k]["job"]["id"] == fact["job_id"]]
                seen[kind]["fact"] = fact
        seen["url"] = f"file://{shared}"
        seen["project"] = str(world.project)
        seen["head"] = world.git("rev-parse", "HEAD").strip()
        yield seen


def test_item_7_the_request_carries_what_only_the_caller_can_know(
    travelled: dict[str, Any],
) -> None:
    request = travelled["request"]
    assert request["is_remote"] is True
    assert request["repo"] == {
        "root": travelled["project"],
        "url": travelled["url"],
        "branch": "main",
        "head": travelled["head"],
    }
    (text,) = [each["text"] for each in request["sources"]["files"] if "ref.hcl" in each["path"]]
    assert 'ref    = "v1"' in text


@pytest.mark.parametrize(
    ("source", "branch", "ref", "shown"),
    [
        ("folder", "main", "", "[a] news\n"),
        ("git", "", "", "[a] news\n"),
        ("ref", "fix", "v1", "[a] hello\n"),
    ],
)
def test_item_7_url_branch_and_ref_travel_through_fact_and_order_to_the_clone(
    travelled: dict[str, Any], source: str, branch: str, ref: str, shown: str
) -> None:
    """Clones in every situation: test_clones.py."""
    seen = travelled[source]
    fact = seen["fact"]
    assert (fact["kind"], fact["repo"]) == ("clone", travelled["url"])
    assert fact["head"] == travelled["head"]
    assert fact["start"] == "main"
    assert fact.get("ref", "") == ref
    branch = branch or seen["job"]["vars"]["source.branch"]
    assert (fact.get("branch") or fact["start"]) == branch
    calls = [line for line in travelled["calls"] if fact["workspace_id"] in line]
    (clone,) = [line for line in calls if " clone " in line]
    assert f" --branch main {'' if ref else '--single-branch '}-- {travelled['url']} " in clone
    made = [line for line in calls if f" -b {branch} " in line]
    assert bool(made) is (source != "folder")
    assert not ref or [line for line in calls if f" {ref}^" in line]
    assert seen["job"]["status"] == "completed"
    assert shown in seen["log"]
    assert f"[a] {branch}\n" in seen["log"]


@pytest.mark.parametrize(
    "never",
    [r"remote( |$)", r"config .*remote\.", r"secret"],
    ids=["git remote", "the URL of a checkout", "a password in a URL"],
)
def test_item_7_the_daemon_never_asks_a_checkout_for_its_remote(
    travelled: dict[str, Any], never: str
) -> None:
    assert travelled["calls"]
    words = [line.partition(": ")[2] for line in travelled["calls"]]
    assert [line for line in words if re.search(rf"(^| ){never}", line)] == []
    assert [line for line in travelled["calls"] if travelled["project"] in line] == []


# -- 11: webhook notifications ---------------------------------------------------------------------------------------------

KEY = "S3CRETKEY"


@pytest.fixture(scope="module")
def notified() -> Iterator[dict[str, Any]]:
    """A job whose first notification fails, then hangs; the daemon is killed, and the next one finds the receiver well."""
    with a_world() as world:
        world.job("""
            step "a" { run = "true" }
            notify {
              on_start = "begins"
              on_done  = "is done"
            }
        """)
        seen: dict[str, Any] = {}
        with Receiver(Answer(503), Answer(hangs=True)) as sick:
            environ = {
                **QUIET,
                "OJ_NOTIFY_WEBHOOK_URL": sick.url,
                "OJ_NOTIFY_WEBHOOK_SECRET": KEY,
            }
            with running(world, environ, name="first") as first:
                first.ready()
                job_id = world.start("build", environ=environ)
                sick.until(2)
                seen["job while it hangs"] = world.finish(job_id)["status"]
                first.kill()
            port, seen["before"] = sick.port, list(sick.posts)
        with Receiver(port=port) as well, running(world, environ, name="second") as second:
            second.ready()
            well.until(2)
            until(lambda: second.ready()["notifications_waiting"] == 0, SECONDS, "all is told")
            seen["status"] = second.term()
            seen["after"] = list(well.posts)
        seen["job"] = job_id
        seen["logs"] = first.out.read_text() + second.out.read_text()
        yield seen


@pytest.mark.parametrize(
    "situation",
    [
        "chat webhooks take the body",
        "it is signed",
        "it is tried again",
        "a job does not wait for it",
        "it survives a restart",
        "its URL is secret",
    ],
)
def test_item_11_webhook(notified: dict[str, Any], situation: str) -> None:
    """Decisions, severity, back-off, hanging receivers: test_notifications.py."""
    before, after = notified["before"], notified["after"]
    match situation:
        case "chat webhooks take the body":
            for post in after:
                assert post.headers["content-type"].startswith("application/json")
                assert post.json["body"] in post.json["text"]
                assert post.json["job"] == notified["job"]
        case "it is signed":
            for post in (*before, *after):
                signed = post.headers["x-oj-timestamp"].encode() + b"." + post.raw
                expected = hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
                assert post.headers["x-oj-signature"] == f"sha256={expected}"
        case "it is tried again":
            keys = {post.json["body"]: post.key for post in after}
            assert {post.key for post in before} <= set(keys.values())
            assert len(before) >= 2
        case "a job does not wait for it":
            assert notified["job while it hangs"] == "completed"
        case "it survives a restart":
            assert sorted(post.json["body"] for post in after) == ["begins", "is done"]
            assert notified["status"] == 0
        case _:
            assert "S3CRET" not in notified["logs"]


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, ("yes", "profile workstation")),
        (POD, ("no", "profile cluster")),
        ({**POD, "OJ_NOTIFY_DESKTOP": "1"}, ("yes", "OJ_NOTIFY_DESKTOP")),
        ({"OJ_NOTIFY_DESKTOP": "0"}, ("no", "OJ_NOTIFY_DESKTOP")),
    ],
)
def test_item_11_the_desktop_is_notified_on_a_workstation(
    environ: dict[str, str], shown: tuple[str, str]
) -> None:
    """On a real session bus: test_notifications.py, test_on_a_workstation_it_appears_on_the_desktop."""
    decided = settings.load({**environ, "OJ_STATE_DIR": "/s"})
    made = {choice.name: (choice.value, choice.reason) for choice in decided.choices()}
    assert made["notify_desktop"] == shown


# -- 12: logs on stdout ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "is_on_stdout", "is_json"),
    [
        (QUIET, True, True),
        ({**QUIET, "OJ_LOG_FORMAT": "text"}, True, False),
        ({**QUIET, "OJ_LOG_STDOUT": "0"}, False, True),
        ({}, False, False),
        ({"OJ_LOG_STDOUT": "1", "OJ_LOG_FORMAT": "json"}, True, True),
    ],
    ids=["pod", "pod as text", "pod in a file", "workstation", "workstation as a pod"],
)
def test_item_12_where_the_log_goes_and_how_it_looks(
    world: World, environ: dict[str, str], is_on_stdout: bool, is_json: bool
) -> None:
    with running(world, environ) as daemon:
        daemon.ready()
        assert daemon.term() == 0
    file = world.state / "daemon.log"
    assert file.exists() is not is_on_stdout
    text = daemon.out.read_text() if is_on_stdout else file.read_text()
    if not is_on_stdout:
        assert daemon.out.read_text() == f"{READY}\n"
        assert file.stat().st_mode & 0o777 == 0o600
    else:
        assert daemon.err.read_text() == ""
    if is_json:
        records = [json.loads(line) for line in text.splitlines()]
        messages = [each["message"] for each in records]
    else:
        messages = [line.partition(": ")[2] for line in text.splitlines()]
        assert re.search(r"(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z INFO oj_daemon.main: READY$", text)
    assert READY in messages
    assert messages[-1] == "ended"


def test_item_12_whoever_asks_for_the_log_of_a_pod_is_told_where_it_is(world: World) -> None:
    assert "kubectl logs" in world.oj("daemon", "logs", environ=POD).err


def test_item_12_the_file_of_a_workstation_is_rotated(world: World) -> None:
    world.state.mkdir(mode=0o700)
    with (world.state / "daemon.log").open("wb") as old:
        old.truncate(10_000_000)
    world.oj("daemon", "start")
    assert (world.state / "daemon.log.1").stat().st_size == 10_000_000
    assert READY in (world.state / "daemon.log").read_text()


BUG = """
import sys, oj_daemon.main as daemon
async def broken(*_, **__):
    raise RuntimeError("one\\ntwo")
daemon.start_works = broken
sys.exit(daemon.main([]))
"""
BUG_IN_A_STEP = """
import sys, oj_daemon.main as daemon
from oj_daemon.executor import Executor
async def broken(*_, **__):
    raise RuntimeError("one\\ntwo")
Executor._run_step = broken
sys.exit(daemon.main([]))
"""
"""A daemon with a bug."""


@pytest.fixture(scope="module")
def spoken() -> Iterator[dict[str, Any]]:
    """What daemons say of a job, of a bug that meets one order, and of one that ends them."""
    with a_world() as world:
        world.job('step "a" { run = "true" }\nnotify { on_start = "begins" }')
        with running(world, QUIET, code=BUG_IN_A_STEP) as daemon:
            daemon.ready()
            job_id = world.run("build", code=1, environ=QUIET)["id"]
            daemon.term()
        with running(world, QUIET, name="broken", code=BUG) as broken:
            code = broken.process.wait(SECONDS)
        err = daemon.err.read_text() + broken.err.read_text()
        lines = (daemon.out.read_text() + broken.out.read_text()).splitlines()
        yield {"lines": lines, "err": err, "job": job_id, "code": code}


@pytest.mark.parametrize(
    "situation",
    ["an object a line", "nothing else", "time and level", "ids", "a bug", "a bug that ends it"],
)
def test_item_12_a_pod_logs_objects_with_time_level_message_ids_and_tracebacks(
    spoken: dict[str, Any], situation: str
) -> None:
    records: list[dict[str, Any]] = [json.loads(line) for line in spoken["lines"]]
    match situation:
        case "an object a line":
            assert all(isinstance(each, dict) for each in records)
            assert all(each["message"] for each in records)
        case "nothing else":
            assert spoken["err"] == ""
        case "time and level":
            for each in records:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])
                assert each["level"] in ("debug", "info", "warning", "error", "critical")
        case "ids":
            about = [each["message"] for each in records if each.get("job") == spoken["job"]]
            assert [text for text in about if text.startswith("notification: ")]
            assert [text for text in about if text.startswith("carrying out StartStep failed")]
        case "a bug":
            (bug,) = [each for each in records if "StartStep" in each["message"]]
            assert bug["level"] == "error"
            assert bug["exception"].startswith("Traceback (most recent call last):\n")
            assert bug["exception"].endswith("RuntimeError: one\ntwo")
        case _:
            assert spoken["code"] == 1
            assert records[-1]["message"] == "the daemon crashed"
            assert records[-1]["exception"].endswith("RuntimeError: one\ntwo")


# -- 13: locks -------------------------------------------------------------------------------------------------------------


def record(pid: int, start_time: str) -> bytes:
    made = {"pid": pid, "start_time": start_time, "boot_id": lock.boot_id(), "version": "0"}
    return json.dumps(made).encode()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stale_pid(folder: Path) -> None:
    (folder / "daemon.pid").write_bytes(record(os.getpid(), "1"))


def living_pid(folder: Path) -> None:
    (folder / "daemon.pid").write_bytes(record(os.getpid(), lock.start_time(os.getpid())))


def garbage_pid(folder: Path) -> None:
    (folder / "daemon.pid").write_bytes(b"\0\xff not json")


def stale_socket(folder: Path) -> None:
    (folder / "daemon.sock").unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "daemon.sock"))


def other_version(folder: Path) -> None:
    (folder / "daemon.version").write_text("99.0+unknown\n")


def held_lock(folder: Path) -> None:
    (folder / "daemon.lock").write_text("")


def nothing(_: Path) -> None:
    """What the daemon itself left is enough."""


@pytest.fixture(scope="module")
def left() -> Iterator[World]:
    """A state folder whose daemon was killed, as the one of each row is."""
    with a_world() as world:
        with running(world, QUIET, name="killed") as killed:
            killed.ready()
        yield world


@pytest.mark.parametrize(
    "leave",
    [
        nothing,
        stale_pid,
        living_pid,
        garbage_pid,
        stale_socket,
        other_version,
        held_lock,
    ],
)
def test_item_13_in_a_pod_stale_files_never_block_a_start(
    left: World, leave: Callable[[Path], None]
) -> None:
    """On a workstation: tests/oj_daemon/test_main.py and test_daemon.py."""
    assert {"daemon.pid", "daemon.sock", "daemon.version"} <= names_in(left.state)
    leave(left.state)
    # Not only there, but held by somebody who lives.
    held = filelock.FileLock(left.state / "daemon.lock") if leave is held_lock else None
    with held or contextlib.nullcontext(), running(left, QUIET) as daemon:
        status = daemon.ready()
        assert json.loads((left.state / "daemon.pid").read_text())["pid"] == status["pid"]
        assert (left.state / "daemon.version").read_text().strip() == build.identity()
        assert not [text for text in status["warnings"] if "daemon." in text]


def test_item_13_a_pod_takes_its_files_away_and_has_no_lock(world: World) -> None:
    with running(world, QUIET) as daemon:
        daemon.ready()
        assert daemon.term() == 0
    assert not {"daemon.pid", "daemon.sock", "daemon.version", "daemon.lock"} & names_in(
        world.state
    )


def test_item_13_on_a_workstation_a_file_lock_keeps_the_second_daemon_away(world: World) -> None:
    with running(world, {}, name="first") as first:
        first.ready()
        with running(world, {}, name="second") as second:
            assert second.process.wait(SECONDS) == 1
        assert f"a daemon is already running (pid {first.process.pid}" in second.err.read_text()
        assert first.ready()["epoch"] == 1


def test_item_13_a_daemon_that_was_replaced_cannot_act_any_more(world: World) -> None:
    """Here in a pod without a Lease; whoever is stopped, killed or cut off in between, and a workstation: test_lease.py."""
    world.job('step "a" { run = "echo x >>${invoke.dir}/ledger" }')
    with running(world, QUIET, name="one") as one:
        one.ready()
        with running(world, QUIET, name="two") as two:
            assert two.ready()["epoch"] == 2
            assert one.process.wait(SECONDS) == 1
            told = one.err.read_text() + one.out.read_text()
            assert "belongs to a newer daemon" in told
            assert world.run("build", environ=QUIET)["status"] == "completed"
            assert (world.project / "ledger").read_text() == "x\n"
            assert json.loads((world.state / "daemon.pid").read_text())["pid"] == two.process.pid


@pytest.fixture(scope="module")
def pair() -> Iterator[dict[str, Any]]:
    """Two daemons, one Lease: what each said and did before and after a clean end of the first."""
    with a_world() as world:
        kube = KubeProcess(world.folder)
        ports = {name: free_port() for name in ("oj-0", "oj-1")}
        environ = {**QUIET, "OJ_LEASE": "on", "OJ_K8S_KUBECONFIG": str(kube.kubeconfig)}
        environ["OJ_LEASE_RETRY_MS"] = "200"

        def start(name: str) -> Daemon:
            return opened.enter_context(
                running(world, {**environ, "OJ_HTTP_PORT": str(ports[name])}, name=name)
            )

        seen: dict[str, Any] = {}
        try:
            with contextlib.ExitStack() as opened:
                first = start("oj-0")
                seen["epoch"] = first.ready()["epoch"]
                second = start("oj-1")
                second.says("standing by: the Lease")
                seen["acting"] = {path: ask(ports["oj-0"], path) for path in PATHS}
                seen["standby"] = {path: ask(ports["oj-1"], path) for path in PATHS}
                seen["unmet"] = unmet(ports["oj-1"])
                seen["pid"] = json.loads((world.state / "daemon.pid").read_text())["pid"]
                seen["first"] = first.process.pid
                seen["exit"] = first.term()
                seen["next epoch"] = second.ready()["epoch"]
                seen["holder"] = kube.lease()["spec"]["holderIdentity"].partition("_")[0]
                seen["segments"] = sorted(p.name for p in (world.state / "wal").iterdir())
        finally:
            kube.close()
        yield seen


PATHS = ("/healthz", "/readyz", "/metrics")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("epoch", 1),
        ("exit", 0),
        ("next epoch", 2),
        ("holder", "oj-1"),
    ],
)
def test_item_13_a_lease_elects_one_daemon_where_asked(
    pair: dict[str, Any], what: str, expected: object
) -> None:
    """kill -9, SIGSTOP, the API server away: test_lease.py."""
    assert pair[what] == expected


def test_item_13_a_daemon_that_stands_by_touches_nothing_and_segments_have_one_writer(
    pair: dict[str, Any],
) -> None:
    assert pair["pid"] == pair["first"]
    epochs = {name.partition("-")[0] for name in pair["segments"]}
    assert "00000002" in epochs


# -- 14: TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sealed() -> Iterator[tuple[World, int, dict[str, str]]]:
    """A pod with a token and a port, and nothing said about TLS; `oj` of somebody elsewhere."""
    with a_world() as world:
        port = free_port()
        environ = {**QUIET, "OJ_AUTH_TOKEN": TOKEN, "OJ_TCP_PORT": str(port)}
        with running(world, environ) as daemon:
            fingerprint = daemon.ready()["tls_fingerprint"]
            other = world.folder / "other.pem"
            trustme.CA().cert_pem.write_to_path(str(other))
            values = {
                "CA": str(world.state / "tls" / "ca.pem"),
                "OTHER CA": str(other),
                "FINGERPRINT": fingerprint,
                "COLONS": ":".join(
                    fingerprint[at : at + 2].upper() for at in range(0, len(fingerprint), 2)
                ),
                "TLS": f"tls://127.0.0.1:{port}",
                "TCP": f"tcp://127.0.0.1:{port}",
                "BARE": f"127.0.0.1:{port}",
            }
            yield world, port, values


@pytest.mark.parametrize(
    ("url", "environ", "refusal"),
    [
        ("TLS", {"OJ_TLS_CA": "CA"}, ""),
        ("TLS", {"OJ_TLS_FINGERPRINT": "FINGERPRINT"}, ""),
        ("TLS", {"OJ_TLS_FINGERPRINT": "COLONS"}, ""),
        ("TLS", {}, "is not trusted"),
        ("TLS", {"OJ_TLS_CA": "OTHER CA"}, "is not trusted"),
        ("TLS", {"OJ_TLS_FINGERPRINT": "ab" * 32}, "another daemon, or somebody in between"),
        ("TLS", {"OJ_TLS_CA": "CA", "OJ_AUTH_TOKEN": "guess"}, "the token is not known here"),
        ("TCP", {}, "tls://"),
        ("BARE", {}, "tls://"),
    ],
)
def test_item_14_a_pod_speaks_tls_and_clients_verify_by_ca_or_fingerprint(
    sealed: tuple[World, int, dict[str, str]], url: str, environ: dict[str, str], refusal: str
) -> None:
    """All commands over TLS: test_remote.py; versions, reloading and client certificates: tests/oj_daemon/test_tls.py."""
    world, _, values = sealed
    asked = {name: values.get(value, value) for name, value in environ.items()}
    done = world.oj(
        *("job", "list", "-o", "json"),
        code=1 if refusal else 0,
        environ={"OJ_DAEMON_URL": values[url], "OJ_AUTH_TOKEN": TOKEN, **asked},
    )
    assert refusal in done.err, done
    if not refusal:
        assert done.json is not None


@pytest.mark.parametrize("is_plain", [False, True], ids=["mounted certificate", "asked for plain"])
def test_item_14_a_certificate_is_mounted_or_plain_text_is_asked_for_by_name(
    world: World, is_plain: bool
) -> None:
    port = free_port()
    ca, cert = world.folder / "ca.pem", world.folder / "cert.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(cert))
    environ = {**QUIET, "OJ_AUTH_TOKEN": TOKEN, "OJ_TCP_PORT": str(port)}
    environ |= {"OJ_TLS": "off"} if is_plain else {"OJ_TLS_CERT": str(cert)}
    tls = {"OJ_DAEMON_URL": f"tls://127.0.0.1:{port}", "OJ_AUTH_TOKEN": TOKEN, "OJ_TLS_CA": str(ca)}
    tcp = {"OJ_DAEMON_URL": f"tcp://127.0.0.1:{port}", "OJ_AUTH_TOKEN": TOKEN}
    with running(world, environ) as daemon:
        status = daemon.ready()
        good, bad = (tcp, tls) if is_plain else (tls, tcp)
        world.oj("job", "list", environ=good)
        world.oj("job", "list", code=1, environ=bad)
        assert not (world.state / "tls").exists()  # none had to be made
        plain = [text for text in status["warnings"] if "is plain text (OJ_TLS=off)" in text]
        assert bool(plain) is is_plain
        assert bool(status["tls_fingerprint"]) is not is_plain


def test_item_14_a_sidecar_speaks_tls_with_the_certificate_that_it_is_given(
    tmp_path: Path,
) -> None:
    """Which a place in a cluster gets from the daemon's CA; that is the Kubernetes runtime's, a later issue."""
    authority = trustme.CA()
    cert = tmp_path / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(cert))
    port = free_port()
    options = ("--port", str(port), "--tls-cert", str(cert), "--tls-key", str(cert))
    with sidecar(["sleep", "600"], *options, env={"OJ_SIDECAR_TOKEN": TOKEN}):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        link = http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=context)
        with contextlib.closing(link):
            link.request("GET", "/api/v1/health")
            assert link.getresponse().status == 200
        stranger = http.client.HTTPSConnection("localhost", port, timeout=SECONDS)
        with contextlib.closing(stranger), pytest.raises(ssl.SSLCertVerificationError):
            stranger.request("GET", "/api/v1/health")
        plain = http.client.HTTPConnection("localhost", port, timeout=SECONDS)
        with contextlib.closing(plain):
            plain.request("GET", "/api/v1/health")
            with pytest.raises((OSError, http.client.HTTPException)):
                plain.getresponse()


# -- 16: probes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "path", "status", "said"),
    [
        ("acting", "/healthz", 200, '"ok"'),
        ("acting", "/readyz", 200, '"ready": true'),
        ("acting", "/metrics", 200, "oj_is_leader 1.0"),
        ("standby", "/healthz", 200, '"ok"'),
        ("standby", "/readyz", 503, '"ready": false'),
        ("standby", "/metrics", 200, "oj_is_leader 0.0"),
    ],
)
def test_item_16_the_daemon_has_its_own_probes_and_metrics(
    pair: dict[str, Any], who: str, path: str, status: int, said: str
) -> None:
    """Figures, a loop that hangs, a log that breaks: test_health.py and tests/oj_daemon/test_main.py; draining: item 17."""
    code, body = pair[who][path]
    assert (code, said in body) == (status, True), body
    assert "is held by oj-0" in pair["unmet"]["lease"]


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")],
)
def test_item_16_the_pod_of_the_daemon_is_probed_there(probe: str, path: str) -> None:
    (container,) = daemon_pod()["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    asked = container[probe]["httpGet"]
    assert (asked["path"], ports[asked["port"]]) == (path, settings.HTTP_PORT)


@pytest.fixture(scope="module")
def beside() -> Iterator[Sidecar]:
    """A sidecar that has a token, as those of places have."""
    environ = {"OJ_SIDECAR_TOKEN": TOKEN}
    with sidecar(["sleep", "600"], "--agent", "generic", env=environ) as made:
        yield made


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [("", "health", 200), ("", "ready", 200), ("", "agent", 401), (TOKEN, "agent", 200)],
)
def test_item_16_a_sidecar_is_probed_over_http_without_a_token(
    beside: Sidecar, token: str, path: str, status: int
) -> None:
    """Startup, readiness and liveness of a place ask the same; its pod is the Kubernetes runtime's, a later issue."""
    beside.token = token
    until(lambda: beside.get(path).status == status, SECONDS, beside.log)


# -- 17: drain -------------------------------------------------------------------------------------------------------------

TWO = """
    step "a" {
      run     = "echo up >${invoke.dir}/up; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done; echo a >>${invoke.dir}/ran"
      on_done = { step = "b" }
    }
    step "b" { run = "echo b >>${invoke.dir}/ran" }
"""


def begun(world: World, daemon: Daemon) -> str:
    """A job in its first step."""
    daemon.ready()
    world.job(TWO)
    job_id = world.start("build", environ=daemon.environ)
    world.until_file(world.project / "up")
    return job_id


def drained_down(world: World, environ: dict[str, str], job_id: str) -> list[str]:
    """The steps of the job, once the next daemon is there and the job is done."""
    (world.project / "go").touch()
    with running(world, environ, name="next") as after:
        after.ready()
        steps = ran(world.finish(job_id))
    return [*steps, (world.project / "ran").read_text().replace("\n", "")]


@pytest.fixture(scope="module")
def drained() -> Iterator[dict[str, Any]]:
    """SIGTERM in the middle of a step, in a pod."""
    with a_world() as world:
        seen: dict[str, Any] = {}
        port = free_port()
        environ = {**QUIET, "OJ_HTTP_PORT": str(port), "OJ_DRAIN_TIMEOUT_MS": "600000"}
        with running(world, environ) as daemon:
            job_id = begun(world, daemon)
            daemon.process.send_signal(signal.SIGTERM)
            until(lambda: ask(port, "/readyz")[0] == 503, SECONDS, "it is not ready")
            refused = world.oj("run", "--detach", "build", code=None, environ=environ)
            seen["new work"] = (refused.code, "daemon is draining" in refused.err)
            seen["questions"] = world.status(job_id)
            status = world.oj("daemon", "status", environ=environ).out
            seen["status"] = status.splitlines()[0].split()[-1]
            seen["not ready"] = unmet(port)
            seen["alive"] = ask(port, "/healthz")[0]
            (world.project / "go").touch()
            seen["exit code"] = daemon.process.wait(SECONDS)
        seen["in flight"] = (world.project / "ran").read_text()
        seen["snapshot"] = len(list((world.state / "snapshots").glob("*.zst")))
        seen["stderr"] = daemon.err.read_text()
        seen["last word"] = daemon.records()[-1]["message"]
        seen["nothing lost"] = drained_down(world, environ, job_id)
        yield seen


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("new work", (1, True)),
        ("questions", "running"),
        ("status", "draining"),
        ("not ready", {"draining": "stop asked for by SIGTERM"}),
        ("alive", 200),
        ("in flight", "a\n"),
        ("snapshot", 1),
        ("exit code", 0),
        ("last word", "ended"),
        ("stderr", ""),
        ("nothing lost", ["a completed", "b completed", "ab"]),
    ],
)
def test_item_17_sigterm_drains(drained: dict[str, Any], what: str, expected: object) -> None:
    """In a container, driven from outside: tests/docker/test_afar.py; hooks of git: test_daemon.py, test_stop.py."""
    assert drained[what] == expected


@pytest.mark.parametrize(
    ("environ", "signals", "code"),
    [
        ({"OJ_DRAIN_TIMEOUT_MS": "100"}, 1, 0),
        ({"OJ_DRAIN_TIMEOUT_MS": "600000"}, 2, 128 + signal.SIGTERM),
        ({"OJ_DRAIN_STEPS": "0"}, 1, 0),
    ],
    ids=["the grace period is over", "a second SIGTERM", "steps outlive the daemon"],
)
def test_item_17_nothing_is_lost_when_a_drain_is_cut_short(
    world: World, environ: dict[str, str], signals: int, code: int
) -> None:
    with running(world, {**QUIET, **environ}) as daemon:
        job_id = begun(world, daemon)
        daemon.process.send_signal(signal.SIGTERM)
        if signals == 2:
            daemon.says("draining for at most")
            daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(SECONDS) == code
    assert not (world.project / "ran").exists()
    steps = drained_down(world, {**QUIET}, job_id)
    assert steps == ["a completed", "b completed", "ab"]


def test_item_17_the_pod_is_given_more_time_than_the_drain_takes() -> None:
    spec = daemon_pod()
    (container,) = spec["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["OJ_DRAIN_TIMEOUT_MS"] == "40000"
    assert spec["terminationGracePeriodSeconds"] == 40 + 15
