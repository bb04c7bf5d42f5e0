"""Tests of oj_daemon/adapters/kubernetes/{template,shapes}.py: what people may add to a pod, and what they may not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from kubernetes.client import models

from oj_daemon.adapters.kubernetes import shapes
from oj_daemon.adapters.kubernetes.pod import Clone, PodPlan, Ssh, build
from oj_daemon.adapters.kubernetes.template import merge
from oj_daemon.errors import Rejected
from tests.support import openapi, podsecurity

PLAN = PodPlan(
    name="oj-agt-1",
    namespace="oj",
    instance="i-1",
    project="demo",
    agent_id="agt-1",
    spawn="s1",
    image="registry.example.com/oj-agent:1",
    clone=Clone(url="https://git.example.com/app.git"),
    ssh=Ssh(secret="deploy"),
)
PLAIN = build(PLAN).pod


def planned(template: dict[str, Any], source: str = "pod") -> PodPlan:
    fields = {name: getattr(PLAN, name) for name in PodPlan.__struct_fields__}
    return PodPlan(**{**fields, "templates": ((source, template),)})


def agent(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "agent", **fields}]}}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def safe(pod: dict[str, Any]) -> None:
    """What holds for each pod, whatever its template said."""
    metadata, inside = pod["metadata"], pod["spec"]
    assert podsecurity.strict_violations(inside, metadata["annotations"]) == []
    assert openapi.problems(pod) == []
    ours = PLAIN["metadata"]
    assert (metadata["name"], metadata["namespace"]) == (ours["name"], ours["namespace"])
    assert ours["labels"].items() <= metadata["labels"].items()
    known = {name for part in ("labels", "annotations") for name in ours[part]}
    added = {*metadata["labels"], *metadata["annotations"]} - known
    assert not {name for name in added if name.startswith("oj.dev/")}
    assert not {"ownerReferences", "finalizers"} & set(metadata)
    assert inside["restartPolicy"] == "Never"
    assert inside["automountServiceAccountToken"] is False
    assert not {"nodeName", "shareProcessNamespace"} & set(inside)
    first, plain = inside["containers"][0], PLAIN["spec"]["containers"][0]
    for name in ("name", "image", "workingDir", "startupProbe", "readinessProbe", "livenessProbe"):
        assert first[name] == plain[name]
    assert "command" not in first
    for name in ("env", "volumeMounts", "ports"):
        assert first[name][: len(plain[name])] == plain[name]
    clone = next(each for each in inside["initContainers"] if each["name"] == "clone")
    assert clone["command"] == PLAIN["spec"]["initContainers"][0]["command"]
    assert inside["volumes"][: len(PLAIN["spec"]["volumes"])] == PLAIN["spec"]["volumes"]
    for each in podsecurity.containers(inside):
        if each["name"] not in ("agent", "clone"):
            mounted = {mount["name"] for mount in each.get("volumeMounts", ())}
            assert not mounted & {"sidecar", "ssh"}
    text = str(inside["volumes"][len(PLAIN["spec"]["volumes"]) :])
    assert "serviceAccountToken" not in text
    assert "oj-daemon" not in text


# -- what is left out, and said to be -----------------------------------------------------------------------------------------

LEFT_OUT: list[tuple[dict[str, Any], list[str]]] = [
    (spec(hostNetwork=True, hostPID=True, hostIPC=True, hostUsers=True),
     [f"spec.{name}: left out, a place has no access to its node"
      for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers")]),
    (spec(automountServiceAccountToken=True), ["spec.automountServiceAccountToken: left out, a place has no rights"]),
    (spec(restartPolicy="Always"), ["spec.restartPolicy: left out, oj decides what is started again"]),
    (spec(nodeName="node1"), ["spec.nodeName: left out, the scheduler chooses the node"]),
    (spec(shareProcessNamespace=True), ["spec.shareProcessNamespace: left out, containers would see"]),
    (spec(enableServiceLinks=True), ["spec.enableServiceLinks: left out"]),
    (spec(priority=1000), ["spec.priority: left out, it comes with priorityClassName"]),
    (spec(hostname="x", subdomain="y"), ["spec.hostname: left out, the certificate", "spec.subdomain: left out"]),
    (spec(ephemeralContainers=[{"name": "x"}]), ["spec.ephemeralContainers: left out"]),
    (spec(securityContext={"runAsNonRoot": False, "runAsUser": 0, "fsGroup": True, "sysctls": []}),
     [f"spec.securityContext.{name}: left out, places keep to the restricted profile"
      for name in ("runAsNonRoot", "runAsUser", "fsGroup", "sysctls")]),
    (spec(securityContext="none"), ["spec.securityContext: left out, it is no object"]),
    ({"metadata": {"name": "mine", "namespace": "kube-system", "ownerReferences": [], "finalizers": ["x/y"]}},
     [f"metadata.{name}: left out, oj gives its pods their identity"
      for name in ("name", "namespace", "ownerReferences", "finalizers")]),
    ({"metadata": {"labels": {"oj.dev/agent-id": "agt-2", "oj.dev/new": "x", "app": "mine"}}},
     [rf"metadata.labels\[{name}\]: left out, that is how oj knows its pods"
      for name in ("oj.dev/agent-id", "oj.dev/new", "app")]),
    ({"metadata": {"annotations": {"oj.dev/spawn": "s2"}}}, [r"metadata.annotations\[oj.dev/spawn\]: left out"]),
    ({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/agent": "unconfined"}}},
     ["metadata.annotations.*: left out, places keep to the restricted profile"]),
    (agent(image="other:1", command=["sh"], args=["-c"], workingDir="/", restartPolicy="Always"),
     [r"spec.containers\[agent\].image: left out, it comes from `container \{ image \}`",
      r"\.command: left out, the sidecar", r"\.args: left out", r"\.workingDir: left out", r"\.restartPolicy: left out"]),
    (agent(livenessProbe={"exec": {"command": ["true"]}}), [r"livenessProbe: left out, the sidecar says how it is"]),
    (agent(securityContext={"privileged": True, "allowPrivilegeEscalation": True, "capabilities": {"add": ["SYS_ADMIN"]},
                            "readOnlyRootFilesystem": "no", "procMount": "Unmasked"}),
     [rf"securityContext.{name}: left out, places keep to the restricted profile" for name in (
         "privileged", "allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem", "procMount")]),
    (agent(env=[{"name": "HOME", "value": "/"}, {"name": "OJ_SIDECAR_X", "value": "1"}]),
     [r"env\[HOME\]: left out, oj sets this variable itself", r"env\[OJ_SIDECAR_X\]: left out"]),
    (agent(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "oj-daemon-token", "key": "token"}}}],
           envFrom=[{"secretRef": {"name": "oj-job-0123"}}]),
     [r"env\[A\]: left out, Secrets of the daemon", r"envFrom\[0\]: left out, Secrets of the daemon"]),
    (agent(ports=[{"containerPort": 8080, "name": "x"}]), [r"ports\[8080\]: left out, it is the port of the sidecar"]),
    (agent(volumeMounts=[{"name": "home", "mountPath": "/etc/oj/sidecar"}, {"name": "home", "mountPath": "/tmp/"},
                         {"name": "sidecar", "mountPath": "/x"}, {"name": "tmp", "mountPath": "/etc/oj"}]),
     [r"volumeMounts\[/etc/oj/sidecar\]: left out, something of oj", r"\[/tmp/\]: left out, something of oj",
      r"\[/x\]: left out, Secrets of the daemon", r"\[/etc/oj\]: left out, something of oj"]),
    (agent(volumeDevices=[{"name": "d", "devicePath": "/d"}], resizePolicy=[]),
     ["volumeDevices: left out", "resizePolicy: left out"]),
    (agent(lifecycle={"preStop": {"httpGet": {"port": 1, "host": "10.0.0.1"}}}),
     [r"lifecycle.preStop.httpGet.host: left out, probes and hooks reach their own pod only"]),
    (spec(volumes=[{"name": "host", "hostPath": {"path": "/"}}],
          containers=[{"name": "agent", "volumeMounts": [{"name": "host", "mountPath": "/host"}]}]),
     [r"spec.volumes\[host\]: left out, hostPath is not allowed", r"\[/host\]: left out, there is no volume host any more"]),
    (spec(volumes=[{"name": "workspace", "emptyDir": {}}]), [r"volumes\[workspace\]: left out, the name belongs"]),
    (spec(volumes=[{"name": "a", "secret": {"secretName": "oj-daemon-tls"}},
                   {"name": "b", "projected": {"sources": [{"secret": {"name": "oj-crw-1"}}]}}]),
     [r"volumes\[a\]: left out, Secrets of the daemon", r"volumes\[b\]: left out, Secrets of the daemon"]),
    (spec(volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
     [r"volumes\[t\]: left out, a place has no rights in the cluster"]),
    (spec(containers=[{"name": "clone", "image": "x"}], initContainers=[{"name": "agent", "image": "x"}]),
     [r"containers\[clone\]: left out, the name belongs", r"initContainers\[agent\]: left out, the name belongs"]),
]  # fmt: skip


@pytest.mark.parametrize(("template", "reports"), LEFT_OUT, ids=[str(at) for at in range(len(LEFT_OUT))])  # fmt: skip
def test_what_is_not_for_templates_is_left_out_and_reported(
    template: dict[str, Any], reports: list[str]
) -> None:
    built = build(planned(template))
    assert len(built.left_out) == len(reports), built.left_out
    for said, report in zip(built.left_out, reports, strict=True):
        assert re.search(report, said), said
    safe(built.pod)
    kept = {name: value for name, value in built.pod["spec"]["containers"][0].items() if name != "lifecycle"}  # fmt: skip
    for name in ("envFrom", "lifecycle"):
        kept.pop(name, None)
    assert kept == PLAIN["spec"]["containers"][0]


def test_what_says_the_same_as_we_do_is_not_reported() -> None:
    same = {
        "metadata": {"labels": {"app": "oj-agent"}, "namespace": "oj"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "agent",
                    "image": PLAN.image,
                    "securityContext": {"privileged": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    built = build(planned(same))
    assert (built.left_out, built.pod) == ((), PLAIN)


def test_an_empty_template_changes_nothing() -> None:
    empty: list[dict[str, Any]] = [
        {},
        {"spec": {}, "metadata": {}},
        {"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": None}},
    ]
    for template in empty:
        assert build(planned(template)).pod == PLAIN


def test_other_containers_get_the_restricted_context_too() -> None:
    more = {
        "name": "db",
        "image": "postgres:17",
        "securityContext": {"privileged": True, "runAsUser": 999, "runAsNonRoot": False},
        "ports": [{"containerPort": 5432, "hostPort": 5432}],
        "volumeMounts": [
            {"name": "ssh", "mountPath": "/k"},
            {"name": "workspace", "mountPath": "/w", "mountPropagation": "Bidirectional"},
        ],
    }  # fmt: skip
    built = build(planned(spec(containers=[more])))
    safe(built.pod)
    db = built.pod["spec"]["containers"][1]
    assert db["securityContext"] == {
        "runAsUser": 999, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert db["ports"] == [{"containerPort": 5432}]
    assert db["volumeMounts"] == [{"name": "workspace", "mountPath": "/w"}]
    assert len(built.left_out) == 5


# -- what is refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "says", "hint"),
    [
        ({"nodeSelector": {"a": "b"}}, "pod: nodeSelector: it belongs below `spec`", "write spec.nodeSelector"),
        (spec(nodeSelctor={"a": "b"}), "pod: spec.nodeSelctor: there is no such field", "did you mean nodeSelector?"),
        (spec(nodeSelector=["a"]), "pod: spec.nodeSelector: an object is wanted, not a list", ""),
        (spec(nodeSelector={"a": 1}), r"pod: spec.nodeSelector\[a\]: a text is wanted, not 1", ""),
        (spec(nodeSelector={"a": True}), r"pod: spec.nodeSelector\[a\]: a text is wanted, not true", ""),
        (spec(nodeSelector={"a b": "c"}), "pod: nodeSelector 'a b': not the name of a label", ""),
        (spec(tolerations={"key": "a"}), "pod: spec.tolerations: a list is wanted, not an object", ""),
        (spec(tolerations=[{"tolerationSeconds": "5"}]), "tolerationSeconds: a whole number is wanted, not '5'", ""),
        (spec(tolerations=[None]), r"tolerations\[0\]: an object is wanted, not null", ""),
        (spec(activeDeadlineSeconds=1.5), "activeDeadlineSeconds: a whole number is wanted, not 1.5", ""),
        (spec(volumes=[{"emptyDir": {}}]), r"volumes\[0\]: name is missing", ""),
        (spec(volumes=[{"name": "a"}]), r"volumes\[a\]: one source is wanted", "one of configMap"),
        (spec(volumes=[{"name": "a", "emptyDir": {}, "secret": {}}]), "one source is wanted", ""),
        (spec(volumes=[{"name": "A b", "emptyDir": {}}]), "spec.volumes 'A b': not a name", ""),
        (spec(volumes=[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]), "two are called a", ""),
        (spec(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "big"}}]), "sizeLimit 'big': not a quantity", ""),
        (spec(containers=[{"name": "db"}]), r"containers\[db\]: it has no image", ""),
        (spec(containers=[{"name": "db", "image": "no no"}]), "container db 'no no': not the name of an image", ""),
        (spec(containers=[{"name": "x", "image": "y"}], initContainers=[{"name": "x", "image": "y"}]), "two are called x", ""),
        (agent(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "the variable A is set twice", ""),
        (agent(volumeMounts=[{"name": "nope", "mountPath": "/x"}]), "there is no volume nope", "add it to spec.volumes"),
        (agent(resources={"limits": {"cpu": "100m"}, "requests": {"cpu": 1}}), "cpu of 1 is requested, and the limit is 100m", ""),
        (agent(resources={"limits": {"cpu": True}}), "an amount is wanted, not true", ""),
        (agent(resources={"limits": {"memory": "1m"}}), "thousandths of a byte", "did you mean 1Mi?"),
        (agent(ports=[{"containerPort": "80"}]), "containerPort: a whole number is wanted, not '80'", ""),
        (agent(lifecycle={"preStop": {"httpGet": {"port": True}}}), "port: a number or a text is wanted, not true", ""),
        ({"metadata": {"labels": {"a": "b c"}}}, "pod: label a 'b c': not the value of a label", ""),
        ({"metadata": {"annotations": {"a b": "c"}}}, "pod: annotation 'a b'", ""),
        ({"kind": "Deployment"}, "kind: 'Deployment' is no pod", "write Pod"),
        ({"spec": {1: "a"}}, "the key 1 is no text", "quotes"),
        ({"spec": "x" * 99}, "spec: an object is wanted, not 'xxx", ""),
    ],
)  # fmt: skip
def test_what_is_no_template_is_refused_with_its_place(
    template: dict[str, Any], says: str, hint: str
) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        build(planned(template))
    assert hint in refused.value.hint
    assert refused.value.hint


def test_the_message_says_where_the_template_was_written() -> None:
    with pytest.raises(Rejected, match=r"^OJ_K8S_POD_TEMPLATE: spec\.x: "):
        build(planned(spec(x=1), "OJ_K8S_POD_TEMPLATE"))


# -- merging ------------------------------------------------------------------------------------------------------------


def test_the_second_is_merged_onto_the_first() -> None:
    first = {
        "a": {"b": 1, "c": [1]},
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "containers": [{"name": "x", "image": "i", "args": ["1"]}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"mountPath": "/a", "name": "v"}],
        "tolerations": [{"key": "a"}],
    }
    second = {
        "a": {"c": [2], "d": 3},
        "env": [{"name": "A", "valueFrom": {}}, {"name": "C", "value": "3"}],
        "containers": [{"name": "x", "args": ["2"]}, {"name": "y"}],
        "volumes": [{"name": "v", "secret": {}}],
        "volumeMounts": [{"mountPath": "/a", "name": "v", "readOnly": True}],
        "tolerations": [{"key": "a"}, {"key": "b"}],
    }
    assert merge(first, second) == {
        "a": {"b": 1, "c": [2], "d": 3},
        "env": [{"name": "A", "valueFrom": {}}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
        "containers": [{"name": "x", "image": "i", "args": ["2"]}, {"name": "y"}],
        "volumes": [{"name": "v", "secret": {}}],
        "volumeMounts": [{"mountPath": "/a", "name": "v", "readOnly": True}],
        "tolerations": [{"key": "a"}, {"key": "b"}],
    }  # fmt: skip


# -- the shapes are those of the API ----------------------------------------------------------------------------------------

PLAIN_KINDS = {str: ("str", "datetime"), int: ("int",), bool: ("bool",)}


def differences(shape: Any, kind: str, path: str) -> list[str]:  # noqa: PLR0911 - one case for each kind of shape
    """Where a shape of ours is not the API's."""
    if shape is object:
        return []
    if isinstance(shape, type):
        return [] if kind in PLAIN_KINDS[shape] else [f"{path}: {shape} is {kind}"]
    if shape is shapes.EITHER:
        return [] if kind == "object" else [f"{path}: number or text is {kind}"]
    if shape is shapes.QUANTITY:
        return [] if kind == "str" else [f"{path}: quantity is {kind}"]
    if isinstance(shape, list):
        inner = re.fullmatch(r"List\[(.+)\]", kind)
        return differences(shape[0], inner[1], f"{path}[]") if inner else [f"{path}: list is {kind}"]  # fmt: skip
    if isinstance(shape, shapes.Map):
        inner = re.fullmatch(r"Dict\[str, (.+)\]", kind)
        return differences(shape.of, inner[1], f"{path}{{}}") if inner else [f"{path}: map is {kind}"]  # fmt: skip
    model = getattr(models, kind)
    wires = {wire: field for field, wire in model.attribute_map.items()}
    needed = {
        field.serialization_alias or name
        for name, field in model.model_fields.items()
        if field.is_required()
    }
    ours = {name.rstrip("!"): inner for name, inner in shape.items()}
    # Our own containers need no image in a template, nor has it to name any container.
    optional = {"containers"} if kind == "V1PodSpec" else set()
    found = [f"{path}.{name}: {kind} has no such field" for name in ours.keys() - wires.keys()]
    found += [
        f"{path}.{name}: {kind} needs it"
        for name in needed - optional
        if f"{name}!" not in shape and ours.get(name) is not object
    ]
    for name, inner in ours.items():
        if name in wires:
            found += differences(inner, model.openapi_types[wires[name]], f"{path}.{name}")
    return found


def test_every_shape_is_the_api_s_own() -> None:
    assert differences(shapes.TEMPLATE, "V1Pod", "pod") == []


@pytest.mark.parametrize(
    ("shape", "model"),
    [
        (shapes.SPEC, models.V1PodSpec),
        (shapes.CONTAINER, models.V1Container),
        (shapes.VOLUME, models.V1Volume),
        (shapes.METADATA, models.V1ObjectMeta),
        (shapes.TEMPLATE, models.V1Pod),
    ],
)
def test_no_field_that_kubernetes_knows_is_called_unknown(
    shape: dict[str, object], model: Any
) -> None:
    assert set(model.attribute_map.values()) <= {name.rstrip("!") for name in shape}


# -- hostile templates ------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([
    "agent", "clone", "checkout", "db", "proxy", "home", "tmp", "workspace", "sidecar", "ssh", "data",
    "oj-daemon-token", "oj-job-1",
])  # fmt: skip
TEXTS = st.sampled_from([
    "a", "1", "Always", "Never", "Unconfined", "Bidirectional", "unconfined", "kube-system", "root",
])  # fmt: skip
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from(["busybox:1", "evil.example/x@sha256:" + "0" * 64]),
    "mountPath": st.sampled_from(["/", "/x", "/etc/oj", "/etc/oj/sidecar", "/tmp", "/workspace/", "/home/oj", "/proc"]),
    "host": st.just("169.254.169.254"),
    "hostPort": st.just(22),
    "containerPort": st.sampled_from([80, 8080, 443]),
    "runAsUser": st.sampled_from([0, 1, -1, 1000]),
    "privileged": st.booleans(),
    "secretName": st.sampled_from(["oj-daemon-tls", "oj-crw-1", "mine"]),
    "restartPolicy": st.sampled_from(["Always", "Never", "OnFailure"]),
    "drop": st.just(["NET_RAW"]),
    "add": st.just(["SYS_ADMIN"]),
    "medium": st.just("Memory"),
    "sizeLimit": st.just("1Gi"),
    "divisor": st.just("1"),
    "apiVersion": st.just("v1"),
    "kind": st.just("Pod"),
}  # fmt: skip
KEYS = st.sampled_from([
    "app", "team", "oj.dev/agent-id", "oj.dev/x", "app.kubernetes.io/name", "cpu", "memory", "nvidia.com/gpu",
    "container.apparmor.security.beta.kubernetes.io/agent",
])  # fmt: skip
UNIQUE = ("containers", "initContainers", "volumes", "env")
DEEPEST = 7
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def of_kind(kind: str, name: str, depth: int) -> st.SearchStrategy[Any]:
    """Values of a type of the API, well formed and up to no good."""
    if name in BY_NAME:
        return BY_NAME[name]
    if name in ("requests", "limits"):
        names = st.sampled_from(["cpu", "memory", "nvidia.com/gpu"])
        return st.dictionaries(names, st.just("1Gi"), max_size=2)
    if inner := re.fullmatch(r"List\[(.+)\]", kind):
        key = (lambda each: each.get("name")) if name in UNIQUE else None
        return st.lists(of_kind(inner[1], "", depth), max_size=3, unique_by=key)
    if inner := re.fullmatch(r"Dict\[str, (.+)\]", kind):
        return st.dictionaries(KEYS, of_kind(inner[1], "", depth), max_size=3)
    simple: dict[str, st.SearchStrategy[Any]] = {
        "str": NAMES if name.lower().endswith("name") else TEXTS,
        "datetime": TEXTS,
        "int": st.sampled_from([0, 1, 5, 80, 8080]),
        "bool": st.booleans(),
        "object": st.sampled_from([1, "http"]),
    }
    return simple[kind] if kind in simple else of_model(kind, depth + 1)


def of_model(kind: str, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    model = getattr(models, kind)
    needed = {field for field, info in model.model_fields.items() if info.is_required()}

    optional = sorted(set(model.attribute_map) - needed)
    most = 0 if depth >= DEEPEST or not optional else 1 if depth >= 4 else 4
    which = st.lists(st.sampled_from(optional), max_size=most, unique=True) if most else st.just([])
    if kind == "V1Volume":
        which = st.sampled_from(optional).map(lambda name: [name])

    @st.composite
    def draw_model(draw: st.DrawFn) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for field in sorted({*needed, *draw(which)}):
            wire = model.attribute_map[field]
            drawn[wire] = draw(of_kind(model.openapi_types[field], wire, depth))
        return drawn

    return draw_model()


def attempt(template: dict[str, Any]) -> None:
    """Refused with a hint, or a pod that is safe."""
    try:
        built = build(planned(template))
    except Rejected as error:
        hint = error.hint
    else:
        event("taken, with something left out" if built.left_out else "taken")
        safe(built.pod)
        return
    event("refused")
    assert hint


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(st.fixed_dictionaries({}, optional={"metadata": of_model("V1ObjectMeta", 2), "spec": of_model("V1PodSpec")}))  # fmt: skip
def test_a_template_of_well_formed_ill_will_makes_no_unsafe_pod(template: dict[str, Any]) -> None:
    attempt(template)


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(of_model("V1Container", 1))
def test_a_container_of_ill_will_makes_no_unsafe_pod(container: dict[str, Any]) -> None:
    attempt(spec(containers=[container]))
    attempt(spec(initContainers=[container]))


FIELDS = sorted({name.rstrip("!") for name in {**shapes.SPEC, **shapes.CONTAINER, **shapes.METADATA}})  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | NAMES | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "kind", "status"]), JUNK))
def test_a_template_of_any_shape_is_refused_or_makes_a_safe_pod(template: dict[str, Any]) -> None:
    attempt(template)
