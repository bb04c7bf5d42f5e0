"""The real Claude Code against the loopback API.

Rule: it has no other network than that server, a key made up for it, and a first run already behind it; so it neither asks
nor calls home. Where there is no such program the tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

from tests.support.agent.session import Session
from tests.support.anthropic.server import ApiServer

KEY: Final = "sk-ant-loopback-0000000000000000000000000000"


def find() -> str | None:
    """Return the real program: named by OJ_TEST_CLAUDE, installed by scripts/lib/claude.sh, or on the PATH."""
    installed = Path(__file__).resolve().parents[2] / ".venv-claude" / "node_modules/.bin/claude"
    named = os.environ.get("OJ_TEST_CLAUDE") or (str(installed) if installed.exists() else "claude")
    return shutil.which(named)


def environment(api: ApiServer) -> dict[str, str]:
    """Return what the program needs to know to stay on this machine."""
    return {
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # As root it refuses to skip permissions unless it is told that it sits in a sandbox.
        "IS_SANDBOX": "1",
    }


def acquaint(config: Path, project: Path) -> None:
    """Write the configuration of somebody who has been here before: no start dialogs."""
    known = {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
        "projects": {str(project): {"hasTrustDialogAccepted": True}},
    }
    (config / ".claude.json").write_text(json.dumps(known))


def real(program: str, folder: Path, api: ApiServer) -> Session:
    """Return a session of the real program."""
    session = Session([program], folder, environment(api))
    acquaint(session.config, session.project)
    return session
