"""Tests of oj_daemon/settings.py."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from oj_daemon.errors import OjError
from oj_daemon.settings import Choice, Cluster, Profile, Secret, Settings, load, log_alone

HERE = {"OJ_STATE_DIR": "/s"}


def reason(settings: Settings, name: str) -> Choice:
    (choice,) = [choice for choice in settings.choices() if choice.name == name]
    return choice


def test_without_any_variable_everything_has_its_default() -> None:
    found = load(HERE)
    assert found._replace(reasons=()) == Settings(
        profile=Profile.WORKSTATION,
        state_folder="/s",
        timeout_ipc_ms=5000,
        timeout_connect_ms=5000,
        timeout_exit_ms=2000,
        connect_poll_ms=50,
        wait_poll_ms=1000,
        run_wait_ms=10_000,
        log_poll_ms=1000,
        metrics_ms=30_000,
        drain_ms=5000,
        drain_steps=False,
        timer_check_ms=1000,
        idle_grace_ms=1000,
        file_lock=True,
        desktop_notify=True,
        webhook=Secret(""),
        webhook_secret=Secret(""),
        notify_severity="info",
        log_format="text",
        log_stdout=False,
        log_level="INFO",
        runtime="local",
        tcp_port=None,
        tcp_bind="127.0.0.1",
        tls=True,
        tls_cert="",
        tls_key="",
        tls_client_ca="",
        tls_names=(),
        http_port=None,
        http_bind="127.0.0.1",
        lease="auto",
        lease_name="oj-daemon",
        lease_duration_ms=15_000,
        lease_renew_ms=10_000,
        lease_retry_ms=2000,
        pod_name="",
        namespace="",
        kubeconfig="",
        cluster=Cluster(
            image="",
            credential_secret="",
            ssh_secret="",
            git_secret="",
            git_url="",
            pull_secrets=(),
            pod_template="",
            daemon_url="",
            resources=(),
            start_timeout_ms=300_000,
            max_places=200,
            checkpoint_ms=300_000,
        ),
        project=None,
        no_color=False,
        color=False,
        is_dumb_terminal=False,
        daemon_url=None,
        tls_ca="",
        tls_fingerprint="",
        tls_client_cert="",
        token=Secret(""),
        inherited=Secret(HERE),
        warnings=(),
        reasons=(),
    )


def test_in_a_cluster_the_defaults_are_those_of_a_pod(tmp_path: Path) -> None:
    token = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount/token"
    token.parent.mkdir(parents=True)
    token.write_text("t")
    found = load({**HERE, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    assert found.profile is Profile.CLUSTER
    assert (found.file_lock, found.desktop_notify, found.log_format, found.log_stdout) == (
        False,
        False,
        "json",
        True,
    )
    assert (found.drain_ms, found.runtime) == (25_000, "kubernetes")
    assert (found.http_port, found.http_bind, found.tcp_port) == (8080, "0.0.0.0", None)
    assert [text.partition(" (")[0] for text in found.warnings] == ["no token is configured"]
    assert reason(found, "profile") == Choice(
        "profile", "cluster", "KUBERNETES_SERVICE_HOST is set"
    )
    assert reason(found, "file_lock") == Choice("file_lock", "no", "profile cluster")


def test_a_cluster_without_credentials_falls_back_and_everybody_is_told(tmp_path: Path) -> None:
    found = load({**HERE, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    assert found.runtime == "local"
    assert found.warnings[:1] == (
        "this is a cluster, but no credentials of a service account are mounted: running everything locally",
    )


@pytest.mark.parametrize("name", ["OJ_DAEMON_URL", "OJ_JOB_ID", "OJ_AGENT_ID"])
def test_whoever_talks_to_a_daemon_elsewhere_is_not_warned_of_how_one_would_be_here(
    tmp_path: Path, name: str
) -> None:
    environ = {**HERE, "KUBERNETES_SERVICE_HOST": "10.0.0.1", name: "x"}
    assert load(environ, tmp_path).warnings == ()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("OJ_FILE_LOCK", "on", "file_lock", True),
        ("OJ_NOTIFY_DESKTOP", "1", "desktop_notify", True),
        ("OJ_LOG_FORMAT", "text", "log_format", "text"),
        ("OJ_LOG_STDOUT", "0", "log_stdout", False),
        ("OJ_TCP_PORT", "off", "tcp_port", None),
        ("OJ_TCP_PORT", "7000", "tcp_port", 7000),
        ("OJ_TCP_BIND", "127.0.0.1", "tcp_bind", "127.0.0.1"),
        ("OJ_TLS", "off", "tls", False),
        ("OJ_HTTP_PORT", "off", "http_port", None),
        ("OJ_HTTP_BIND", "127.0.0.1", "http_bind", "127.0.0.1"),
        ("OJ_DRAIN_TIMEOUT_MS", "1", "drain_ms", 1),
        ("OJ_DRAIN_STEPS", "off", "drain_steps", False),
        ("OJ_PROFILE", "workstation", "profile", Profile.WORKSTATION),
    ],
)
def test_each_choice_of_the_profile_has_a_variable_of_its_own(
    name: str, value: str, field: str, expected: object
) -> None:
    pod = {**HERE, "KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_AUTH_TOKEN": "t"}
    plain, found = load(pod), load({**pod, name: value})
    assert getattr(found, field) == expected != getattr(plain, field)
    assert any(choice.reason == name for choice in found.choices())


def test_a_cluster_listens_as_soon_as_it_has_a_token() -> None:
    found = load({**HERE, "KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_AUTH_TOKEN": "t"})
    assert (found.tcp_port, found.tcp_bind, found.tls) == (7777, "0.0.0.0", True)
    assert load({**HERE, "OJ_AUTH_TOKEN": "t"}).tcp_port is None


def test_the_profile_can_be_named() -> None:
    assert load({**HERE, "OJ_PROFILE": "cluster"}).profile is Profile.CLUSTER
    inside = load({**HERE, "OJ_PROFILE": "Workstation", "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert inside.profile is Profile.WORKSTATION
    assert reason(inside, "profile").reason == "OJ_PROFILE"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OJ_PROFILE", "laptop", "OJ_PROFILE=laptop: no such profile"),
        ("OJ_RUNTIME", "podman", "OJ_RUNTIME=podman: no such runtime"),
        ("OJ_TCP_PORT", "0", "OJ_TCP_PORT=0: not a port"),
        ("OJ_TCP_PORT", "70000", "OJ_TCP_PORT=70000: not a port"),
        ("OJ_HTTP_PORT", "http", "OJ_HTTP_PORT=http: not a port"),
        ("OJ_LEASE", "yes", "OJ_LEASE=yes: no such choice"),
    ],
)
def test_what_is_asked_for_by_name_and_cannot_be_is_an_error(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(OjError, match=f"^{message}$") as failure:
        load({**HERE, name: value})
    assert failure.value.hint


@pytest.mark.parametrize(
    ("environ", "folder", "why"),
    [
        ({"OJ_STATE_DIR": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a", "OJ_STATE_DIR"),
        ({"OJ_STATE_DIR": "", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/oj", "XDG_STATE_HOME"),
    ],
)
def test_the_state_folder_is_the_first_that_is_named(
    environ: dict[str, str], folder: str, why: str
) -> None:
    found = load(environ)
    assert found.state_dir == Path(folder)
    assert reason(found, "state_dir") == Choice("state_dir", folder, why)
    assert found.socket_path == Path(folder, "daemon.sock")
    assert found.socket_address == f"{folder}/daemon.sock"
    assert found.log_path == Path(folder, "daemon.log")


def test_a_relative_state_folder_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({"OJ_STATE_DIR": "state"}).state_folder == str(tmp_path / "state")


def test_without_a_home_there_is_no_state_folder() -> None:
    with pytest.raises(OjError, match=r"^could not determine state directory"):
        load({})


def test_with_a_home_alone_the_state_folder_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("OJ_STATE_DIR", raising=False)
    found = load()
    assert found.state_folder.startswith(str(tmp_path))
    assert found.state_folder.endswith("/oj")


def test_both_spellings_of_the_ipc_timeout_count_and_the_first_wins() -> None:
    assert load({**HERE, "OJ_IPC_TIMEOUT_MS": "7"}).timeout_ipc_ms == 7
    both = load({**HERE, "OJ_IPC_TIMEOUT_MS": "7", "OJ_TIMEOUT_IPC_MS": "8"})
    assert reason(both, "timeout_ipc_ms") == Choice("timeout_ipc_ms", "8", "OJ_TIMEOUT_IPC_MS")


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "0", " 5", "५", "99999999999"])
def test_a_number_that_makes_no_sense_is_ignored_with_one_warning(value: str) -> None:
    found = load({**HERE, "OJ_TIMEOUT_EXIT_MS": value})
    assert found.timeout_exit_ms == 2000
    assert found.warnings == (
        f"OJ_TIMEOUT_EXIT_MS={value!r} is ignored: expected a number of milliseconds from 1 up; using 2000",
    )


def test_a_drain_may_take_no_time_at_all() -> None:
    assert load({**HERE, "OJ_DRAIN_TIMEOUT_MS": "0"}).drain_ms == 0


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("true", True), ("0", False), ("off", False)]
)
def test_a_switch_overrides_the_profile(value: str, expected: bool) -> None:
    assert load({**HERE, "OJ_LOG_STDOUT": value}).log_stdout is expected


def test_words_are_checked() -> None:
    found = load({**HERE, "OJ_LOG": "DEBUG", "OJ_LOG_FORMAT": "xml", "OJ_LOG_STDOUT": "maybe"})
    assert (found.log_level, found.log_format, found.log_stdout) == ("DEBUG", "text", False)
    assert found.warnings == (
        "OJ_LOG_FORMAT='xml' is ignored: expected text or json; using text",
        "OJ_LOG_STDOUT='maybe' is ignored: expected 1 or 0; using 0",
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_PROFILE": "moon"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_LOG_FORMAT": "text"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_LOG_STDOUT": "0"}, False),
        ({"OJ_PROFILE": "cluster", "OJ_TCP_PORT": "x", "OJ_AUTH_TOKEN_FILE": "/nope"}, True),
    ],
)
def test_where_the_log_goes_is_known_also_when_other_settings_are_wrong(
    environ: dict[str, str], expected: bool
) -> None:
    assert log_alone(environ).speaks_json is expected


def test_colour_variables_count_when_they_are_not_empty() -> None:
    yes, no = (
        load({**HERE, "NO_COLOR": "yes", "COLOR": "1"}),
        load({**HERE, "NO_COLOR": "", "COLOR": ""}),
    )
    assert (yes.no_color, yes.color) == (True, True)
    assert (no.no_color, no.color) == (False, False)


def test_a_token_comes_from_the_variable_or_from_a_file_and_never_shows(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    for environ in ({"OJ_AUTH_TOKEN": "s3cret"}, {"OJ_AUTH_TOKEN_FILE": str(file)}):
        found = load({**HERE, **environ})
        assert found.token.reveal() == "s3cret"
        assert reason(found, "token").value == "***"
        assert "s3cret" not in f"{found!r} {found.choices()} {found.token}"


def test_a_token_file_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(OjError, match=r"^read OJ_AUTH_TOKEN_FILE: "):
        load({**HERE, "OJ_AUTH_TOKEN_FILE": "/nonexistent/token"})


def test_a_secret_cannot_be_written_anywhere() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret("x"))


def test_a_daemon_does_not_inherit_what_belongs_to_the_caller() -> None:
    caller = {"OJ_PROJECT": "p", "OJ_JOB_ID": "j", "OJ_STEP": "s", "GIT_DIR": "/g", "TMUX": "t"}
    daemon = load(
        {**HERE, **caller, "PATH": "/bin", "OJ_AUTH_TOKEN": "t", "OJ_LOG": "debug"}
    ).daemon_environ()
    assert daemon == {"OJ_STATE_DIR": "/s", "PATH": "/bin", "OJ_AUTH_TOKEN": "t", "OJ_LOG": "debug"}


def test_a_daemon_does_not_inherit_the_token_of_the_step_that_starts_it(tmp_path: Path) -> None:
    assert "OJ_AUTH_TOKEN" not in load({**HERE, "OJ_AUTH_TOKEN": "ojs_x"}).daemon_environ()
    file = tmp_path / "token"
    file.write_text("ojs_x\n")
    assert (
        "OJ_AUTH_TOKEN_FILE" not in load({**HERE, "OJ_AUTH_TOKEN_FILE": str(file)}).daemon_environ()
    )


def test_a_step_does_not_inherit_what_is_meant_for_the_daemon() -> None:
    daemon = {
        "OJ_AUTH_TOKEN": "t",
        "OJ_LOG": "debug",
        "OJ_PROFILE": "workstation",
        "OJ_PROJECT": "p",
    }
    step = load({"XDG_STATE_HOME": "/x", "PATH": "/bin", **daemon}).step_environ()
    assert step == {"XDG_STATE_HOME": "/x", "PATH": "/bin", "OJ_STATE_DIR": "/x/oj"}


def test_settings_load_nothing_heavy() -> None:
    program = (
        "import sys, click; from oj_daemon import settings; settings.load({'OJ_STATE_DIR': '/s'});"
        "print([n for n in ('pathlib', 'msgspec', 'dataclasses', 'platformdirs', 'asyncio') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_caller_in_a_pod_is_not_warned_about_a_daemon_that_is_elsewhere() -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "HOME": "/h"}
    assert len(load(pod, "/nowhere").warnings) == 2
    afar = {**pod, "OJ_DAEMON_URL": "tls://oj-daemon:7777"}
    assert load(afar, "/nowhere").warnings == ()
