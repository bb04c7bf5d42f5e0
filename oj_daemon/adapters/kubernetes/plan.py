"""From an order to the plan of its pod: what the runbook, the settings and the request say about it, put together.

Rule: pure. The clone is of the URL in the order, at the caller's branch; the job's own branch begins later, by a command in the
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oj_daemon.adapters.kubernetes.pod import Clone, Defaults, GitLogin, PodPlan, Ssh, Workspace
from oj_daemon.core.effects import CreateWorkspace
from oj_daemon.drivers import driver_names, load_driver
from oj_daemon.errors import Rejected
from oj_daemon.settings import Cluster
from oj_daemon.wire.names import PREFIXES

SESSION: Final = "/tmp/oj"  # noqa: S108 - in the pod, whose /tmp is its own
"""Folder of the sidecar of a place: its runs, its files and its agents."""


def plan_of(  # noqa: PLR0913, PLR0917 - each is one thing that a pod is made from
    wanted: CreateWorkspace,
    name: str,
    namespace: str,
    instance: str,
    spawn: str,
    cluster: Cluster,
    template: Mapping[str, object] | None,
) -> PodPlan:
    """The plan of a place; Rejected when there is no image for it."""
    container = wanted.container
    image = container.image if container is not None and container.image else cluster.image
    if not image:
        raise Rejected(
            "make a place: no image is named for it",
            code="invalid",
            hint='name one in the runbook: container { image = "..." }, or for all of them: OJ_K8S_IMAGE',
        )
    templates: list[tuple[str, dict[str, object]]] = []
    if template is not None:
        templates.append(("OJ_K8S_POD_TEMPLATE", dict(template)))
    if container is not None and container.pod:
        templates.append(("container { pod }", dict(container.pod)))
    is_crew = wanted.job_id.startswith(PREFIXES["crew"])
    return PodPlan(
        name=name,
        namespace=namespace,
        instance=instance,
        project=wanted.project,
        job_id="" if is_crew else wanted.job_id,
        crew_id=wanted.job_id if is_crew else "",
        agent_id=wanted.agent_id,
        spawn=spawn,
        image=image,
        pull_secrets=cluster.pull_secrets,
        args=("--place", "--session-dir", SESSION),
        clone=_clone(wanted),
        credential_secret=cluster.credential_secret,
        credential_names=_credentials() if cluster.credential_secret else (),
        ssh=Ssh(secret=cluster.ssh_secret) if cluster.ssh_secret else None,
        git_login=git_login(cluster),
        cpu=(container.cpu or "") if container is not None else "",
        memory=(container.memory or "") if container is not None else "",
        requests=dict(container.requests) if container is not None else {},
        limits=dict(container.limits) if container is not None else {},
        defaults=Defaults(**dict(cluster.resources)),
        templates=tuple(templates),
        workspace=Workspace(path=wanted.path),
    )


def git_login(cluster: Cluster) -> GitLogin | None:
    """What clones of one server are made with, if anything is said about that."""
    if not cluster.git_secret and not cluster.git_url:
        return None
    return GitLogin(secret=cluster.git_secret, server=cluster.git_url)


def _clone(wanted: CreateWorkspace) -> Clone | None:
    if not wanted.repo:
        return None
    return Clone(
        url=wanted.repo,
        branch=wanted.start,
        ref=wanted.ref,
        all_branches=wanted.all_branches,
    )


def _credentials() -> tuple[str, ...]:
    """What any agent program proves with who pays."""
    names = [name for driver in driver_names() for name in load_driver(driver).credential_env]
    return tuple(dict.fromkeys(names))
