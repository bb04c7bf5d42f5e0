"""The test API server as a process: `python -m tests.support.kube --port-file F --kubeconfig K [--namespace N]`.

Rule: the files are written when it listens; it ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from tests.support.kube.server import Server


async def run(port_file: Path, kubeconfig: Path, namespace: str) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server(namespace)
    await server.start()
    server.kubeconfig(kubeconfig, namespace)
    fresh = port_file.with_suffix(".new")
    fresh.write_text(server.url)
    fresh.replace(port_file)
    await ended.wait()
    await server.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port-file", type=Path, required=True)
    options.add_argument("--kubeconfig", type=Path, required=True)
    options.add_argument("--namespace", default="default")
    found = options.parse_args()
    asyncio.run(run(found.port_file, found.kubeconfig, found.namespace))
