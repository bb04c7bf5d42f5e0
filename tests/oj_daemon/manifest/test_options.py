"""Tests of oj_daemon/manifest/options.py: what cannot work is refused with the option to type instead."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from oj_daemon.errors import Rejected
from oj_daemon.manifest.options import Options, check
from oj_daemon.settings import Secret

GOOD = Options(image="registry.example.com/oj-daemon:1.2.3", token=Secret("t" * 32))


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"name": "Oj"}, "--name 'Oj': not a name", "--name oj-daemon"),
        ({"name": "o" * 53}, "not a name", "at most 52"),
        ({"name": "oj-"}, "--name 'oj-': not a name", "begin with a letter"),
        ({"name": "7oj"}, "--name '7oj': not a name", "begin with a letter"),
        ({"name": "oj\n"}, "--name 'oj\\n': not a name", "begin with a letter"),
        ({"namespace": "a.b"}, "--namespace 'a.b': not a name", "at most 63"),
        ({"namespace": ""}, "--namespace '': not a name", "at most 63"),
        ({"tls_secret": "My_Cert"}, "--tls-secret 'My_Cert'", "one of the secrets"),
        ({"webhook_secret": "a..b"}, "--webhook-secret 'a..b'", "one of the secrets"),
        ({"image_pull_secret": "x" * 254}, "--image-pull-secret", "one of the secrets"),
        ({"agent_ssh_secret": "-x"}, "--agent-ssh-secret '-x'", "one of the secrets"),
        ({"agent_git_secret": "X"}, "--agent-git-secret 'X'", "one of the secrets"),
        ({"agent_git_secret": "x"}, "one of them is missing", "--agent-git-url https://git.example.com"),
        ({"agent_git_url": "https://h"}, "one of them is missing", "--agent-git-secret git-login"),
        ({"agent_git_secret": "x", "agent_git_url": "h"}, "--agent-git-url 'h': not the URL of a git server", "https://git.example.com"),
        ({"agent_credential_secret": "x y"}, "--agent-credential-secret 'x y'", "one of the secrets"),
        ({"token": Secret(""), "token_secret": "A"}, "--token-secret 'A'", "one of the secrets"),
        ({"storage_class": "Fast"}, "--storage-class 'Fast'", "one of the storageclasses"),
        ({"image": ""}, "--image ''", "--image registry"),
        ({"image": "oj daemon"}, "--image 'oj daemon'", "--image registry"),
        ({"image": "--replicas"}, "--image '--replicas'", "--image registry"),
        ({"tls_names": ("oj.example.com", "a b")}, "--tls-name 'a b'", "--tls-name oj.example.com"),
        ({"storage_size": "10 GB"}, "--storage-size '10 GB': not a quantity", "512Mi or 4Gi"),
        ({"storage_size": ""}, "--storage-size '': not a quantity", "512Mi or 4Gi"),
        ({"storage_size": "0"}, "--storage-size '0': not a quantity", "512Mi or 4Gi"),
        ({"cpu_limit": "two"}, "--cpu-limit 'two': not a quantity", "500m or 2"),
        ({"memory_request": "1gb"}, "--memory-request '1gb': not a quantity", "512Mi or 4Gi"),
        ({"agent_memory_limit": "-1"}, "--agent-memory-limit '-1'", "512Mi or 4Gi"),
        ({"cpu_request": "2001m"}, "--cpu-request 2001m is more than --cpu-limit 2", "--cpu-limit 2001m"),
        ({"memory_limit": "0.2Gi"}, "--memory-request 256Mi is more than", "--memory-limit 256Mi"),
        ({"agent_ephemeral_request": "9Gi", "agent_ephemeral_limit": "9G"}, "--agent-ephemeral-request 9Gi", "9Gi"),
        ({"replicas": 2, "access_mode": "ReadWriteOncePod"}, "standbys share one volume", "ReadWriteMany"),
        ({"replicas": 3, "access_mode": "ReadWriteOnce"}, "with --replicas 3", "ReadWriteMany"),
        ({"token": Secret("")}, "needs one token", "--token-secret"),
        ({"token_secret": "mine"}, "needs one token", "leave out"),
        ({"token": Secret("short")}, "at least 16", "openssl rand"),
        ({"token": Secret("two words are no token")}, "without spaces", "openssl rand"),
        ({"tls_secret": "cert", "tls_names": ("a",)}, "--tls-name is for a certificate", "leave out"),
        ({"webhook_signed": True}, "--webhook-signed without", "--webhook-secret NAME"),
        ({"runtime": "local", "agent_cpu_limit": "2"}, "with --runtime local", "--agent-"),
        ({"runtime": "local", "agent_egress_ports": (80,)}, "with --runtime local", "--agent-"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_the_option_to_type(
    changes: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(Rejected) as refused:
        check(replace(GOOD, **changes))
    assert said in refused.value.message
    assert hint in refused.value.hint
    assert refused.value.code == "invalid"
    assert "t" * 32 not in refused.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "a", "namespace": "n" * 63},
        {"image": "oj@sha256:" + "0" * 64},
        {"image": "localhost:5000/oj"},
        {"tls_names": ("*.example.com", "192.0.2.7", "2001:db8::1", "OJ.example.com")},
        {"storage_class": "csi.fast-1", "storage_size": "1.5Ti"},
        {"cpu_request": "2", "cpu_limit": "2000m", "memory_limit": "268435456"},
        {"replicas": 2, "access_mode": "ReadWriteMany"},
        {"token": Secret(""), "token_secret": "mine"},
        {"agent_cpu_request": "64", "agent_cpu_limit": "64"},
        {"runtime": "local"},
    ],
)
def test_what_works_is_taken(changes: dict[str, Any]) -> None:
    check(replace(GOOD, **changes))


def test_the_token_does_not_show() -> None:
    assert "t" * 32 not in repr(GOOD)
