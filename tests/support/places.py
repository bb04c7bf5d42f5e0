"""A real place (`oj-sidecar --place`) behind TLS with client certificates, as in a pod, and its clients.

Rule: as in sidecar.py: whatever is started here is ended here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme

from oj_daemon.adapters.place import PlaceClient
from oj_daemon.settings import Secret
from tests.support.probes import free_port
from tests.support.sidecar import PROGRAM, ROOT, SECONDS, Reply, Sidecar, decoded

NAME = "oj-job-1"
"""The pod's, which is in its certificate."""
TOKEN = "open, sesame"
AGENT = str(ROOT / "tests" / "support" / "agent" / "claude")


class Papers:
    """The files of a daemon's CA, of one place and of the daemon as its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.authority = trustme.CA()
        self.ca, self.chain, self.key, self.token = (
            folder / name for name in ("ca.pem", "place.pem", "place.key", "token")
        )
        self.authority.cert_pem.write_to_path(self.ca)
        mine = self.authority.issue_cert(NAME)
        mine.cert_chain_pems[0].write_to_path(self.chain)
        mine.private_key_pem.write_to_path(self.key)
        self.token.write_text(f"{TOKEN}\n")

    def context(self, signer: trustme.CA | None = None) -> ssl.SSLContext:
        """Of a client that knows the place; with a certificate when somebody signs it."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if signer is not None:
            signer.issue_cert("oj-daemon").configure_cert(context)
        return context

    @property
    def daemon(self) -> ssl.SSLContext:
        """Of the daemon."""
        return self.context(self.authority)


class PlaceProcess(Sidecar):
    """One place."""

    def __init__(
        self, papers: Papers, *options: str, context: ssl.SSLContext | None = None, **more: Any
    ) -> None:
        self.papers = papers
        self.port = free_port()
        super().__init__(
            (), "--place", "--host", "127.0.0.1", "--port", str(self.port),
            "--tls-cert", str(papers.chain), "--tls-key", str(papers.key), "--client-ca", str(papers.ca),
            "--token-file", str(papers.token), *options, socket_path=None, **more,
        )  # fmt: skip
        self.token = TOKEN
        self.context = context or papers.daemon
        self.files = Path(options[options.index("--session-dir") + 1]
                          if "--session-dir" in options else self.folder / "d")  # fmt: skip

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request as the daemon."""
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self.ask(method, f"/api/v1/{path}", self.context, sent, body)

    def ask(
        self,
        method: str,
        path: str,
        context: ssl.SSLContext,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        """One request as whoever has that context and those headers."""
        connection = Named(self.port, context)
        with contextlib.closing(connection):
            data = body if isinstance(body, str | bytes | None) else json.dumps(body)
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            return Reply(response.status, decoded(text), text, dict(response.headers))

    def ready(self) -> PlaceProcess:
        """Wait until it answers."""
        super().ready()
        return self

    @contextlib.asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[PlaceClient]:
        """The daemon's client of it."""
        given = {
            "url": f"https://127.0.0.1:{self.port}", "token": Secret(TOKEN), "ssl_context": self.context,
            "server_hostname": NAME, **more,
        }  # fmt: skip
        made = PlaceClient(**given)
        try:
            yield made
        finally:
            await made.close()


class Named(http.client.HTTPSConnection):
    """To loopback, for a server of another name."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", port, timeout=SECONDS)
        self._tls = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=NAME)


@contextlib.contextmanager
def place(papers: Papers, *options: str, **more: Any) -> Iterator[PlaceProcess]:
    """A place for one block."""
    made = PlaceProcess(papers, *options, **more)
    try:
        yield made.ready()
    finally:
        made.close()


def agent_script(folder: Path, name: str, work: Path, *command: str) -> str:
    """The step that an agent in a place is: its sidecar, which it becomes."""
    home = folder / "agents" / name
    words: Sequence[str] = (
        *PROGRAM, "--socket", str(home / "sock"), "--session-dir", str(home / "session"), "--cwd", str(work),
        "--agent", "claude", "--agent-config", str(home / "config.json"), "--exit-with-child", "30",
        "--", *(command or (AGENT,)),
    )  # fmt: skip
    return f"exec {shlex.join(words)}"
