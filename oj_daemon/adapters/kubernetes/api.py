"""A thin client of the Kubernetes API: plain dicts in and out, over the `kubernetes` package's connections.

Rule: every request ends within a time limit, and whatever goes wrong is one KubeError. Nothing is tried again here, but for
one renewal of credentials that the server does not know any more: whether a write may be repeated is for the caller to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from oj_daemon.errors import AdapterError
from oj_daemon.settings import SERVICE_ACCOUNT_TOKEN, Settings

if TYPE_CHECKING:
    from aiohttp import ClientTimeout
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTResponse

Object = dict[str, Any]
"""An object of the API as it is in JSON."""
NoteApiCall = Callable[[str, int, float], None]
"""Told of each request: its verb, the HTTP status (0: no answer) and the seconds until then."""

REQUEST_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 90.0
"""How long a watch may say nothing before it counts as dead: bookmarks come about once a minute."""
SERVICE_ACCOUNT_CA: Final = "ca.crt"
_VERBS: Final = {
    "GET": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_MERGE_PATCH: Final = "application/merge-patch+json"
_LONGEST_REASON: Final = 600


class KubeError(AdapterError):
    """The API server refused, or could not be asked.

    `status` is the HTTP status, 0 when there was no answer: a write may have happened all the same. `reason` is the API's
    word (NotFound, AlreadyExists, Conflict ...; ours are Unreachable, Unreadable and Credentials).
    """

    def __init__(  # noqa: PLR0913 - each comes from somewhere else
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        hint: str = "",
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=str(status) if status else "unreachable", hint=hint)
        self.status = status
        self.reason = reason
        self.body: Mapping[str, Any] = body or {}
        """The Status that the server sent, if it was one."""
        self.retry_after = retry_after
        """Seconds that the server asks us to wait."""


async def connect(
    settings: Settings, *, note_api_call: NoteApiCall | None = None, root: Path = Path("/")
) -> Kube:
    """A client with the credentials of the named kubeconfig or of the pod; KubeError when there are none."""
    from kubernetes.aio.client.api_client import ApiClient  # noqa: PLC0415 - see __init__.py
    from kubernetes.aio.client.configuration import Configuration  # noqa: PLC0415 - the same

    # `retries` stays None: any number, 0 included, turns on retries that would hide from us what happened.
    configuration = Configuration()
    if settings.kubeconfig:
        renew = _from_kubeconfig(configuration, settings.kubeconfig)
    else:
        renew = _from_service_account(configuration, settings, root)
    namespace = await renew()
    try:
        client = ApiClient(configuration)
    except OSError as exc:  # files of certificates that are not there, or are none
        raise _no_credentials(settings.kubeconfig or "the service account", exc) from exc
    client.user_agent = "oj-daemon"
    return Kube(client, settings.namespace or namespace or "default", renew, note_api_call)


class Kube:
    """Connections to one API server; `close` it at the end."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        renew: Callable[[], Awaitable[str]],
        note_api_call: NoteApiCall | None,
    ) -> None:
        self.namespace = namespace
        """Where our objects are."""
        self._client = client
        self._renew = renew
        self._note: NoteApiCall = note_api_call or _unnoted

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._client.configuration.host)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.rest_client.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        seconds: float = REQUEST_SECONDS,
    ) -> Object:
        """One request and its answer; a PATCH is a merge patch. Raises KubeError."""
        import aiohttp  # noqa: PLC0415 - as above

        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS))
        async with self._noted(_VERBS[method], method, path) as call:
            reply = await self._send(method, path, body, query, limit)
            call.status = int(reply.status)
            text = await reply.response.read()
            if reply.status >= 400:
                raise _refusal(method, path, reply, text)
            answer: Object = msgspec.json.decode(text)
            return answer

    async def text(
        self, path: str, query: Mapping[str, str] | None = None, *, seconds: float = REQUEST_SECONDS
    ) -> str:
        """The answer to a GET that is no JSON, such as a log. Raises KubeError."""
        import aiohttp  # noqa: PLC0415 - as above

        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS))
        async with self._noted("get", "GET", path) as call:
            reply = await self._send("GET", path, None, query, limit)
            call.status = int(reply.status)
            found = await reply.response.read()
            if reply.status >= 400:
                raise _refusal("GET", path, reply, found)
            return bytes(found).decode("utf-8", "replace")

    async def watch(
        self, path: str, query: Mapping[str, str] | None = None, *, quiet: float = QUIET_SECONDS
    ) -> AsyncGenerator[Object, None]:
        """The events of a watch, until the server ends it; KubeError when it is refused, silent or cut off.

        An event of type ERROR holds a Status and is the caller's to look at. Close it with `contextlib.aclosing`.
        """
        import aiohttp  # noqa: PLC0415 - as above

        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=quiet)
        async with self._noted("watch", "GET", path) as call:
            reply = await self._send("GET", path, None, {**(query or {}), "watch": "true"}, limit)
            call.status = int(reply.status)
            if reply.status >= 400:
                raise _refusal("GET", path, reply, await reply.response.read())
            call.done()  # how long it goes on is no duration of a call
            try:
                async for line in reply.response.content:
                    if line.strip():
                        yield msgspec.json.decode(line)
            finally:
                reply.response.close()

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        limit: ClientTimeout,
    ) -> RESTResponse:
        reply = await self._try(method, path, body, query, limit)
        if reply.status == 401:
            # Tokens expire: once more with what the files, or the program that gives out tokens, say now.
            await reply.response.read()
            await self._renew()
            reply = await self._try(method, path, body, query, limit)
        return reply

    async def _try(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        limit: ClientTimeout,
    ) -> RESTResponse:
        headers = {"Accept": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = _MERGE_PATCH
        serialized = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*serialized, _request_timeout=limit)

    @contextlib.asynccontextmanager
    async def _noted(self, verb: str, method: str, path: str) -> AsyncIterator[_Call]:
        """Turn what can go wrong into KubeError, and tell the hook how it went."""
        import aiohttp  # noqa: PLC0415 - as above
        from kubernetes.aio.client.exceptions import OpenApiException  # noqa: PLC0415 - the same

        call = _Call(verb, self._note)
        try:
            yield call
        except (aiohttp.ClientError, OSError, TimeoutError, OpenApiException) as exc:
            what = "no answer in time" if isinstance(exc, TimeoutError) else str(exc) or repr(exc)
            raise KubeError(
                f"{method} {path}: the API server at {self.server} cannot be asked: {what}",
                reason="Unreachable",
            ) from exc
        except msgspec.MsgspecError as exc:
            raise KubeError(
                f"{method} {path}: the answer of {self.server} is no JSON: {exc}",
                status=call.status,
                reason="Unreadable",
            ) from exc
        finally:
            call.done()


class _Call:
    """One call, told once."""

    def __init__(self, verb: str, note: NoteApiCall) -> None:
        self.status = 0
        self._verb = verb
        self._note: NoteApiCall | None = note
        self._began = time.monotonic()

    def done(self) -> None:
        note, self._note = self._note, None
        if note is not None:
            note(self._verb, self.status, time.monotonic() - self._began)


def _refusal(method: str, path: str, reply: RESTResponse, text: bytes) -> KubeError:
    try:
        status = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        # A proxy or load balancer, as a rule: its page says nothing that the status does not say.
        status = {}
    reason = str(status.get("reason") or reply.reason or "")
    message = str(status.get("message") or reply.reason or "no reason given")[:_LONGEST_REASON]
    after = reply.headers.get("Retry-After", "")
    return KubeError(
        f"{method} {path}: the API server answered {reply.status} {reason}: {message}",
        status=int(reply.status),
        reason=reason,
        retry_after=float(after) if after.isascii() and after.isdigit() else None,
        body=status,
    )


def _from_kubeconfig(configuration: Configuration, path: str) -> Callable[[], Awaitable[str]]:
    async def renew() -> str:
        from kubernetes.aio.config import (  # noqa: PLC0415 - see __init__.py
            ConfigException,
            load_kube_config,
        )
        from yaml import YAMLError  # noqa: PLC0415 - the same

        try:
            # The library takes a file that is not there for an empty one.
            await asyncio.to_thread(Path(path).read_bytes)
            loader = await load_kube_config(  # type: ignore[no-untyped-call]
                path, client_configuration=configuration, persist_config=False
            )
        except (ConfigException, OSError, YAMLError, ValueError, TypeError, KeyError) as exc:
            raise _no_credentials(path, exc) from exc
        return str(loader.current_context["context"].get("namespace") or "")

    return renew


def _from_service_account(
    configuration: Configuration, settings: Settings, root: Path
) -> Callable[[], Awaitable[str]]:
    """Credentials of the pod: the kubelet replaces the token about every hour, so it is read for every request."""
    token = root / SERVICE_ACCOUNT_TOKEN

    def refresh(target: Configuration) -> None:
        try:
            target.api_key["BearerToken"] = f"Bearer {token.read_text(encoding='ascii').strip()}"
        except (OSError, UnicodeDecodeError) as exc:
            raise _no_credentials(str(token), exc) from exc

    async def renew() -> str:
        environ = settings.inherited.reveal()
        host, port = (environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
        if not host:
            raise KubeError(
                "find the API server: KUBERNETES_SERVICE_HOST is not set, so this is no pod",
                reason="Credentials",
                hint="set OJ_K8S_KUBECONFIG to a file with credentials",
            )
        configuration.host = f"https://{f'[{host}]' if ':' in host else host}:{port or '443'}"
        configuration.ssl_ca_cert = str(token.with_name(SERVICE_ACCOUNT_CA))
        configuration.refresh_api_key_hook = refresh  # type: ignore[assignment] # its default is None
        refresh(configuration)
        return ""

    return renew


def _no_credentials(where: str, exc: Exception) -> KubeError:
    what = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc) or repr(exc)
    return KubeError(
        f"load credentials for the cluster from {where}: {what}",
        reason="Credentials",
        hint="set OJ_K8S_KUBECONFIG to a file with credentials, or mount those of a service account",
    )


def _unnoted(verb: str, status: int, seconds: float) -> None:
    """Stand in for the hook."""
