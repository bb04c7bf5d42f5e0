"""Tests of tests/support/openapi.py and podsecurity.py: each kind of mistake is found, so that silence means something."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from oj_daemon.manifest.objects import objects
from oj_daemon.manifest.options import Options
from oj_daemon.settings import Secret
from tests.support import openapi
from tests.support.podsecurity import strict_violations, violations

Object = dict[str, Any]

MADE = {
    (each["kind"], each["metadata"]["name"]): each
    for each in objects(Options(image="oj", token=Secret("t" * 32)))
}


def stateful_set() -> Object:
    return copy.deepcopy(MADE["StatefulSet", "oj-daemon"])


def pod() -> Object:
    spec: Object = stateful_set()["spec"]["template"]["spec"]
    return spec


def at(thing: Any, path: str) -> Any:
    for step in path.split("."):
        thing = thing[int(step)] if step.isdigit() else thing[step]
    return thing


@pytest.mark.parametrize(
    ("path", "key", "value", "expected"),
    [
        ("spec", "replica", 1, "spec.replica: V1StatefulSetSpec has no such field"),
        ("spec", "service_name", "x", "spec.service_name: V1StatefulSetSpec has no such field"),
        ("spec", "replicas", "1", "spec.replicas: expected int, found '1'"),
        ("spec", "replicas", True, "spec.replicas: expected int, found True"),
        ("spec", "replicas", None, "spec.replicas: expected int, found None"),
        ("spec", "selector", None, "spec.selector: expected V1LabelSelector, found None"),
        ("spec", "volumeClaimTemplates", {}, "spec.volumeClaimTemplates: expected a list, found {}"),
        ("spec.template.spec", "automountServiceAccountToken", "true",
         "spec.template.spec.automountServiceAccountToken: expected bool, found 'true'"),
        ("spec.template.spec.containers.0.resources.limits", "cpu", 2,
         "spec.template.spec.containers[0].resources.limits[cpu]: expected str, found 2"),
        ("spec.template.spec.containers.0.env.0", "value", 7777,
         "spec.template.spec.containers[0].env[0].value: expected str, found 7777"),
        ("spec.template.spec.containers.0.startupProbe.httpGet", "port", None,
         "spec.template.spec.containers[0].startupProbe.httpGet.port: expected a value"),
        ("metadata", "labels", ["a"], "metadata.labels: expected a mapping of texts, found ['a']"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_found_where_it_is(path: str, key: str, value: object, expected: str) -> None:  # fmt: skip
    thing = stateful_set()
    at(thing, path)[key] = value
    assert openapi.problems(thing) == [expected]


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("spec", "selector", "spec.selector: missing, V1StatefulSetSpec needs it"),
        ("spec.template.spec", "containers", "spec.template.spec.containers: missing, V1PodSpec needs it"),
        ("spec.template.spec.containers.0.ports.1", "containerPort",
         "spec.template.spec.containers[0].ports[1].containerPort: missing, V1ContainerPort needs it"),
        ("metadata", "name", "metadata.name: missing"),
    ],
)  # fmt: skip
def test_a_missing_field_is_found(path: str, key: str, expected: str) -> None:
    thing = stateful_set()
    del at(thing, path)[key]
    assert openapi.problems(thing) == [expected]


def test_an_unknown_kind_is_a_problem_and_a_sound_object_is_none() -> None:
    assert openapi.problems({"apiVersion": "v1", "kind": "StatefulSet"}) == [
        "kind: ('v1', 'StatefulSet') is not known here"
    ]
    assert openapi.problems(stateful_set()) == []


def in_pod(**changes: object) -> Callable[[Object], None]:
    return lambda spec: spec.update(changes)


def in_context(**changes: object) -> Callable[[Object], None]:
    return lambda spec: spec["securityContext"].update(changes)


def in_container(**changes: object) -> Callable[[Object], None]:
    return lambda spec: spec["containers"][0]["securityContext"].update(changes)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (in_pod(hostNetwork=True), "pod: hostNetwork"),
        (in_pod(hostPID=True), "pod: hostPID"),
        (in_pod(volumes=[{"name": "x", "hostPath": {"path": "/"}}]), "volume x: hostPath"),
        (in_pod(volumes=[{"name": "x", "nfs": {}}]), "volume x: nfs"),
        (in_context(runAsNonRoot=False), "pod: runAsNonRoot is false"),
        (in_context(runAsNonRoot=None), "container daemon: runAsNonRoot is not true"),
        (in_context(runAsUser=0), "pod: runAsUser is 0"),
        (in_context(seccompProfile={"type": "Unconfined"}), "pod: seccompProfile is Unconfined"),
        (in_context(seccompProfile={}), "container daemon: seccompProfile is None"),
        (in_context(sysctls=[{"name": "kernel.msgmax"}]), "pod: sysctl kernel.msgmax"),
        (in_context(seLinuxOptions={"type": "spc_t"}), "pod: seLinuxOptions"),
        (in_context(appArmorProfile={"type": "Unconfined"}), "pod: appArmorProfile is Unconfined"),
        (in_context(windowsOptions={"hostProcess": True}), "pod: hostProcess"),
        (in_container(runAsUser=0), "container daemon: runAsUser is 0"),
        (in_container(privileged=True), "container daemon: privileged"),
        (in_container(allowPrivilegeEscalation=True), "container daemon: allowPrivilegeEscalation is not false"),
        (in_container(capabilities={}), "container daemon: capabilities do not drop ALL"),
        (in_container(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "container daemon: capability SYS_ADMIN"),
        (in_container(procMount="Unmasked"), "container daemon: procMount Unmasked"),
        (lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80), "container daemon: hostPort 80"),
        (lambda spec: spec["containers"][0]["livenessProbe"]["httpGet"].update(host="other"),
         "container daemon: livenessProbe names a host"),
        (lambda spec: spec.update(initContainers=[{"name": "clone"}]), "container clone: allowPrivilegeEscalation is not false"),
    ],
)  # fmt: skip
def test_what_the_restricted_profile_forbids_is_found(
    spoil: Callable[[Object], None], expected: str
) -> None:
    spec = pod()
    assert violations(spec) == []
    spoil(spec)
    assert expected in violations(spec)


def test_an_annotation_that_switches_confinement_off_is_found() -> None:
    name = "container.apparmor.security.beta.kubernetes.io/daemon"
    assert violations(pod(), {name: "unconfined"}) == [f"pod: annotation {name}"]
    assert violations(pod(), {name: "runtime/default"}) == []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda spec: spec["securityContext"].pop("fsGroup"), "pod: fsGroup is not fixed"),
        (lambda spec: spec.pop("enableServiceLinks"), "pod: enableServiceLinks is not false"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "pod: automountServiceAccountToken is left to chance"),
        (lambda spec: spec["containers"][0]["resources"]["limits"].pop("memory"), "container daemon: no limits of memory"),
    ],
)  # fmt: skip
def test_what_oj_does_not_allow_itself_is_found(
    spoil: Callable[[Object], None], expected: str
) -> None:
    spec = pod()
    assert strict_violations(spec) == []
    spoil(spec)
    assert strict_violations(spec) == [expected]
