"""The programs that `oj` is compared with: where they are, and how to get them.

Rule: a peer that is not here is reported by name; nothing is installed unless `--peers` asked for it, and what comes
from PyPI goes into a throw-away environment of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

DEBIAN: Final = {"task-spooler": "tsp", "nq": "nq", "parallel": "parallel"}
"""Package -> its program."""
PYPI: Final = ("huey", "rq", "celery", "dbos", "prefect", "luigi")
FOLDER: Final = ".venv-peers"


def program(package: str) -> str | None:
    """The program of a Debian package, if it is installed."""
    return shutil.which(DEBIAN[package])


def python(root: Path) -> str | None:
    """The Python of the throw-away environment, if there is one."""
    path = root / FOLDER / "bin" / "python"
    return str(path) if path.exists() else None


def has_library(root: Path, name: str) -> bool:
    """Whether a peer from PyPI can be imported there."""
    interpreter = python(root)
    if interpreter is None:
        return False
    start = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([interpreter, "-c", start], check=False).returncode == 0


def missing(root: Path) -> list[str]:
    """Names of the peers that are not here."""
    debian = [package for package in DEBIAN if program(package) is None]
    return debian + [name for name in PYPI if not has_library(root, name)]


def install(root: Path) -> None:
    """Get what can be got; each peer by itself, so that one failure costs one peer."""
    debian = [package for package in DEBIAN if program(package) is None]
    if debian and (shutil.which("apt-get") is None or os.geteuid() != 0):
        _say(f"not installed (needs root and apt-get): {' '.join(debian)}")
    elif debian:
        _run(["apt-get", "update", "-qq"])
        for package in debian:
            _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package])
    interpreter = root / FOLDER / "bin" / "python"
    if not interpreter.exists():
        _run([sys.executable, "-m", "venv", str(root / FOLDER)])
    for name in PYPI:
        if not has_library(root, name):
            _run([str(interpreter), "-m", "pip", "install", "-qq", name])


def _run(argv: list[str]) -> None:
    _say(" ".join(argv))
    code = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        _say(f"  failed with {code}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
