"""`oj --version` names the commit from a checkout, a wheel, an sdist and a build without `.git`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from oj_daemon import __version__
from tests.oj_daemon.test_build import git, head

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    "pyproject.toml",
    "hatch_build.py",
    "LICENSE",
    "README.md",
    ".gitignore",
    "oj_cli",
    "oj_daemon",
    "oj_tui",
]
GIVEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is built, without `.git`."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__", "_build.py"),
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def checkout(tree: Path) -> Path:
    """The same as a clean git checkout."""
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "all")
    return tree


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("BUILD_GIT_HASH", "PYTHONPATH")
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def build(tree: Path, target: str, out: Path, **environment: str) -> Path:
    """Build one archive with what is installed, and return it."""
    done = run("-m", "hatchling", "build", "-t", target, "-d", str(out), cwd=tree, **environment)
    assert done.returncode == 0, done.stderr
    (archive,) = out.iterdir()
    return archive


def version_of(installed: Path, cwd: Path) -> str:
    """What the copy of `oj` in a folder says of itself; the folder comes before the one under test."""
    done = run(
        "-m", "oj_cli", "--version", cwd=cwd, PYTHONPATH=str(installed), PYTHONDONTWRITEBYTECODE="1"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def unpack_wheel(wheel: Path, into: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    return into


def expected(commit: str) -> str:
    return f"oj {__version__}+{commit}\n"


def test_a_checkout_names_its_commit(checkout: Path, tmp_path: Path) -> None:
    assert version_of(checkout, tmp_path) == expected(head(checkout))


def test_a_wheel_names_the_commit_and_the_checkout_stays_clean(
    checkout: Path, tmp_path: Path
) -> None:
    wheel = build(checkout, "wheel", tmp_path / "out")
    installed = unpack_wheel(wheel, tmp_path / "installed")
    assert version_of(installed, tmp_path) == expected(head(checkout))
    assert git(checkout, "status", "--porcelain") == ""
    assert not (checkout / "oj_daemon/_build.py").exists()


def test_a_wheel_brings_both_programs_all_packages_and_the_licence(
    checkout: Path, tmp_path: Path
) -> None:
    installed = unpack_wheel(build(checkout, "wheel", tmp_path / "out"), tmp_path / "installed")
    information = installed / f"oj-{__version__}.dist-info"
    programs = (information / "entry_points.txt").read_text().split("\n")
    assert "oj = oj_cli.main:main" in programs
    assert "oj-sidecar = oj_daemon.sidecar.main:main" in programs
    assert (information / "licenses/LICENSE").is_file()
    tracked = git(checkout, "ls-files", "oj_cli", "oj_daemon", "oj_tui").split("\n")
    assert [name for name in tracked if not (installed / name).is_file()] == []
    assert sorted(path.name for path in installed.iterdir() if path != information) == [
        "oj_cli",
        "oj_daemon",
        "oj_tui",
    ]


def test_a_wheel_made_from_the_sdist_names_the_commit(checkout: Path, tmp_path: Path) -> None:
    sdist = build(checkout, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert version_of(unpacked, tmp_path) == expected(head(checkout))
    installed = unpack_wheel(build(unpacked, "wheel", tmp_path / "out"), tmp_path / "installed")
    assert version_of(installed, tmp_path) == expected(head(checkout))


def test_a_build_without_git_takes_the_build_argument(tree: Path, tmp_path: Path) -> None:
    wheel = build(tree, "wheel", tmp_path / "out", BUILD_GIT_HASH=GIVEN)
    assert version_of(unpack_wheel(wheel, tmp_path / "installed"), tmp_path) == expected(GIVEN[:12])


@pytest.mark.parametrize("given", ["", "unknown"])
def test_a_build_without_git_and_argument_is_unknown(
    tree: Path, tmp_path: Path, given: str
) -> None:
    wheel = build(tree, "wheel", tmp_path / "out", BUILD_GIT_HASH=given)
    assert version_of(unpack_wheel(wheel, tmp_path / "installed"), tmp_path) == expected("unknown")


def test_a_build_argument_that_is_no_commit_ends_the_build(tree: Path, tmp_path: Path) -> None:
    done = run(
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(tmp_path / "out"),
        cwd=tree,
        BUILD_GIT_HASH="x'; rm",
    )
    assert done.returncode != 0
    assert (
        'BUILD_GIT_HASH is "x\'; rm": give the 7 to 64 hexadecimal digits of a commit'
        in done.stderr
    )


def test_the_sidecar_program_says_its_version_and_refuses_a_senseless_command_line(
    tmp_path: Path,
) -> None:
    start = "import sys; from oj_daemon.sidecar.main import main; sys.exit(main())"
    version = run("-c", start, "--version", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (version.returncode, version.stdout[:11]) == (0, "oj-sidecar ")
    refused = run("-c", start, "--agent", "claude", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
