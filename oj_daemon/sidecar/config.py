"""The agent configuration file: what the daemon wants for this one agent.

Rule: an unknown key or a wrong type is an error that names it; nothing is ignored.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from oj_daemon.drivers.base import Json
from oj_daemon.errors import AdapterError


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All keys are optional."""

    settings: Json = {}
    """For the agent's own settings, in its own words."""
    mcp: Json = {}
    """Name of a server -> its definition."""
    stop: Json = {}
    """mode (allow, gate, auto), prompt, schema"""
    start: Json = {}
    """text, shell, event"""
    prompt: str = ""
    """First message; with --resume the next one."""
    restore: str = ""
    """File with the conversation of --resume, where this machine has none of it."""
    screen: Json = {}
    """For a generic agent: patterns that tell its state from its screen."""
    owns_config_dir: bool = False
    """CLAUDE_CONFIG_DIR was made for this agent, so that files in it may be written."""
    is_sandboxed: bool = False
    """The agent runs in a container of its own."""
    answer_timeout_s: int = 86_400
    """How long a prompt of the agent may wait for its answer."""


def read(path: str) -> AgentConfig:
    """Read the file; an empty path means no file."""
    if not path:
        return AgentConfig()
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=AgentConfig)
    except OSError as error:
        raise AdapterError(
            f"read --agent-config {path}: {error.strerror}", code="config"
        ) from error
    except msgspec.MsgspecError as error:
        raise AdapterError(f"read --agent-config {path}: {error}", code="config") from error
