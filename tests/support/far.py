"""A daemon that is reached over TLS only, and a user on what counts as another machine.

Rule: black box. The user's own state folder does not exist and must not come to be: nothing of the daemon's is found there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.probes import free_port
from tests.support.waiting import until
from tests.support.world import World

TOKEN = "sesame, open"


class Far:
    """The two sides: `world` is the user, `server` the environment of the daemon."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = free_port()
        self.server = {
            **world.environ,
            "OJ_AUTH_TOKEN": TOKEN,
            "OJ_TCP_PORT": str(self.port),
        }
        self.info: dict[str, Any] = {}
        self.start()
        world.environ |= {
            "OJ_STATE_DIR": str(world.folder / "mine"),
            "OJ_DAEMON_URL": f"tls://127.0.0.1:{self.port}",
            "OJ_AUTH_TOKEN": TOKEN,
            "OJ_TLS_FINGERPRINT": self.info["tls_fingerprint"],
            "OJ_LOG_POLL_MS": "50",
        }

    @property
    def here(self) -> Mapping[str, str]:
        """The environment of somebody on the daemon's machine."""
        unset = dict.fromkeys(("OJ_DAEMON_URL", "OJ_TLS_FINGERPRINT"), "")
        return {**self.server, **unset}

    def start(self) -> None:
        """Start the daemon, on its own machine."""
        self.world.oj("daemon", "start", environ=self.here)
        self.info = self.world.oj("daemon", "status", "-o", "json", environ=self.here).json

    def restart(self) -> None:
        """Kill it without a warning, and start the next one."""
        self.world.kill_daemon()
        self.start()

    def close(self) -> None:
        """End the daemon; the rest is the world's."""
        self.world.oj("daemon", "stop", "--kill", code=None, environ=self.here)
        until(lambda: not (self.world.state / "daemon.pid").exists(), 30, "the daemon is gone")
        assert not (self.world.folder / "mine").exists(), "a daemon of our own was started"
