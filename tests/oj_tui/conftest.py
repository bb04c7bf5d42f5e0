from __future__ import annotations

from tests.support.live_view import plain_screens

__all__ = ["plain_screens"]
