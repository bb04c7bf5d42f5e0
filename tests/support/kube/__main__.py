"""The test API server as a process: `python -m tests.support.kube --port-file F --kubeconfig K [--namespace N] [--kubelet]`.

Rule: the files are written when it listens; it ends with SIGTERM, and with it every process of its pods.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from tests.support.kube.server import Server


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server(options.namespace)
    await server.start()
    server.kubeconfig(options.kubeconfig, options.namespace)
    kubelet = None
    if options.kubelet is not None:
        from tests.support.kube.kubelet import ENTRY_POINT, Kubelet  # noqa: PLC0415 - most tests have none

        env = dict(each.split("=", 1) for each in options.env)
        kubelet = Kubelet(
            server,
            options.kubelet,
            shared=options.share,
            env=env,
            is_direct=options.direct,
            entry_point=[options.entry_point] if options.entry_point else ENTRY_POINT,
        )
        await kubelet.start()
    fresh = options.port_file.with_suffix(".new")
    fresh.write_text(f"{server.url}\n{server.admin_url}\n")
    fresh.replace(options.port_file)
    await ended.wait()
    if kubelet is not None:
        await kubelet.close()
    await server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--kubelet", type=Path, help="folder of a kubelet; without one pods stay as they are")  # fmt: skip
    parser.add_argument("--share", type=Path, action="append", default=[], help="folder that all pods see")  # fmt: skip
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE of all images")
    parser.add_argument("--direct", action="store_true", help="pods listen themselves and cannot move")  # fmt: skip
    parser.add_argument("--entry-point", help="program of all images")
    asyncio.run(run(parser.parse_args()))
