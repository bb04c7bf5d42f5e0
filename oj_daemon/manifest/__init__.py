"""The daemon as a pod: the objects that `oj daemon manifest` prints."""

from __future__ import annotations
