"""Build hook: every wheel and sdist carries the git commit that it was made from, as `oj_daemon/_build.py`.

Rule: the work tree stays as it is; the file is written to a temporary folder and goes into the archive from there.
The commit comes from, in this order: `.git` beside this file, the build argument BUILD_GIT_HASH (an image is built
without `.git`), the `_build.py` of the sdist that is being built, else "unknown". An editable install carries none,
for it reads the checkout when it runs.
"""

from __future__ import annotations

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "oj_daemon/_build.py"
TEMPLATE = '''"""The commit that this build was made from. Written by hatch_build.py."""

from __future__ import annotations

GIT_HASH = "{hash}"
'''


class BuildHook(BuildHookInterface):  # type: ignore[type-arg] # the configuration class is hatchling's own business
    """Adds `oj_daemon/_build.py` to what is being built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called once for each archive, before its files are collected."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="oj-build-")
        made = Path(self._folder.name, "_build.py")
        made.write_text(TEMPLATE.format(hash=git_hash(Path(self.root))), encoding="utf-8")
        build_data["force_include"][str(made)] = TARGET

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Called once for each archive when it is complete."""
        if version != "editable":
            self._folder.cleanup()


def git_hash(root: Path) -> str:
    """The commit of the tree at `root`; a build argument that is no commit ends the build."""
    build = runpy.run_path(str(root / "oj_daemon" / "build.py"))
    unknown = str(build["UNKNOWN"])
    asked = os.environ.get("BUILD_GIT_HASH", "").strip().lower()  # noqa: TID251 - not part of the package
    if asked and asked != unknown and not build["is_hash"](asked):
        message = f"BUILD_GIT_HASH is {asked!r}: give the 7 to 64 hexadecimal digits of a commit, or leave it out"
        raise ValueError(message)
    if found := build["read_git_hash"](root):
        return str(found)
    if asked:
        return asked[: build["HASH_LENGTH"]]
    baked = root / TARGET
    return str(runpy.run_path(str(baked))["GIT_HASH"]) if baked.is_file() else unknown
