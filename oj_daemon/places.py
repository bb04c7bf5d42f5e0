"""The runtime of a daemon that has places for its jobs: put together from settings, state folder and cluster.

Rule: imported only where the settings name such a runtime. What was asked for by name works or the daemon ends with the cause.
"""

from __future__ import annotations

import json
import logging
import tomllib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oj_daemon import tls
from oj_daemon.adapters.kubernetes import api, plan, pod, template
from oj_daemon.adapters.kubernetes.runtime import Issuer, KubernetesPlaces
from oj_daemon.errors import OjError, StoreError
from oj_daemon.observer import Observer
from oj_daemon.settings import Settings
from oj_daemon.store import files
from oj_daemon.tokens import Tokens

logger = logging.getLogger(__name__)


async def open_places(settings: Settings, tokens: Tokens, observer: Observer) -> KubernetesPlaces:
    """Connect to the cluster of the settings. Raises KubeError, OjError, StoreError."""
    kube = await api.connect(settings, note_api_call=observer.note_api_call)
    try:
        await _may_use(kube)
        pod.check_defaults(pod.Defaults(**dict(settings.cluster.resources)))
        login = plan.git_login(settings.cluster)
        if login is not None:
            pod.check_git_login(login)
        authority = tls.Authority(settings.state_dir / "tls")
        issuer = Issuer(authority.pem, authority.issue, authority.context("oj-daemon"))
        return KubernetesPlaces(
            kube,
            settings.cluster,
            instance=_instance(settings.state_dir),
            key=tokens.key_for("places"),
            issuer=issuer,
            environ=_way_back(settings),
            checkpoints=settings.state_dir / "checkpoints",
            template=_template(settings.cluster.pod_template),
        )
    except BaseException:
        await kube.close()
        raise


async def _may_use(kube: api.Kube) -> None:
    """Raise KubeError where we are not let in; a server that does not answer now will do so later."""
    try:
        await kube.request("GET", f"/api/v1/namespaces/{kube.namespace}/pods", query={"limit": "1"})
    except api.KubeError as error:
        if error.status in (401, 403, 404):
            raise
        logger.warning("%s", error.message)


def _instance(state_dir: Path) -> str:
    """Which state folder it is whose pods these are, for ever."""
    path = state_dir / "instance"
    try:
        if path.exists():
            return str(uuid.UUID(path.read_text("ascii").strip()))
        made = str(uuid.uuid4())  # noqa: TID251 - decides nothing: it only has to be another one than others'
        files.replace_file(path, f"{made}\n".encode(), durable=True)
    except OSError as error:
        raise files.store_error(error, "read or make", path) from error
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged: {error}",
            code="corrupt",
            hint="restore it: it names the pods of this daemon",
        ) from error
    return made


def _way_back(settings: Settings) -> dict[str, str]:
    """What an `oj` in a place needs to reach this daemon."""
    url = settings.cluster.daemon_url
    if not url:
        return {}
    chain = Path(settings.tls_cert) if settings.tls_cert else settings.state_dir / "tls/server.pem"
    pin = {"OJ_TLS_FINGERPRINT": tls.fingerprint(chain)} if url.startswith("tls:") else {}
    return {"OJ_DAEMON_URL": url, **pin}


def _template(path: str) -> Mapping[str, Any] | None:
    """The file that is merged into every pod: YAML, JSON or TOML. Raises OjError."""
    if not path:
        return None
    import yaml  # noqa: PLC0415 - 15 ms, where there is a template

    try:
        text = Path(path).read_text("utf-8")
        if path.endswith(".toml"):
            found: object = tomllib.loads(text)
        elif path.endswith(".json"):
            found = json.loads(text)
        else:
            found = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise OjError(
            f"read OJ_K8S_POD_TEMPLATE {path}: {error}",
            code="invalid",
            hint="mount the file, or unset the variable",
        ) from error
    if not isinstance(found, dict):
        raise OjError(
            f"read OJ_K8S_POD_TEMPLATE {path}: it holds no object with metadata and spec",
            code="invalid",
            hint="correct the file, or unset the variable",
        )
    template.read((("OJ_K8S_POD_TEMPLATE", found),))  # misspelt fields end the start, not each job
    return found
