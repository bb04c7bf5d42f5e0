"""Where a place is: the name in its certificate stands for the address that it has now.

Rule: imported by place.py alone, once it opens connections: it is made of aiohttp.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult


class Resolver(aiohttp.ThreadedResolver):
    """Resolves every name to the host that is the right one at that moment."""

    def __init__(self, host: Callable[[], str]) -> None:
        super().__init__()
        self._host = host

    async def resolve(
        self, _name: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of the host."""
        return await super().resolve(self._host(), port, family)
