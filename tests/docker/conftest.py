"""Everything here needs a Docker engine; where there is none, the tests say so and are skipped.

Rule: the engine is asked for nothing that is not on this machine: the base image is made from Debian's packages, wheels are
fetched by this machine's own pip, and the images are built without a network. Each of these is made once for all workers.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import pytest

from tests.docker import engine
from tests.docker.engine import Container, docker, run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONTEXT = (
    ".dockerignore",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "hatch_build.py",
    "oj_cli",
    "oj_daemon",
    "oj_tui",
    "pyproject.toml",
    "scripts",
)
GIT_HASH = "0123456789abcdef0123456789abcdef01234567"
"""Given to the build; there is another one in the `.git` that it must not see."""
OTHER_HASH = "f" * 40
PATIENCE = 600
"""Seconds for a test, which may be the one that has to build the images."""

StartDaemon = Callable[..., Container]


class Images(NamedTuple):
    """Names of what was built."""

    daemon: str
    agent: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by where they lie."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("docker")
            item.add_marker(pytest.mark.timeout(PATIENCE))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def images(shared_folder: Path) -> Images:
    """Both images, as somebody without registry and package index builds them."""
    engine.find_engine()
    tag = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    built = Images(f"oj-test-daemon:{tag}", f"oj-test-agent:{tag}")
    # Each worker of xdist comes here; the first one does the work.
    with filelock.FileLock(shared_folder / "images.lock"):
        if not (shared_folder / "built").exists():
            base = engine.base_image()
            folder = context(shared_folder / "context", base)
            for target, name in built._asdict().items():
                build(folder, base, target, name)
            (shared_folder / "built").touch()
    return built


def build(folder: Path, base: str, target: str, name: str) -> None:
    """Build one image without a network."""
    given = {
        "BASE_IMAGE": base,
        "BUILD_GIT_HASH": GIT_HASH,
        "INSTALL_PACKAGES": "0",
        "PIP_NO_INDEX": "1",
    }
    docker(
        *("build", "-q", "--pull=false", "--network=none", "--target", target, "-t", name),
        *(f"--build-arg={variable}={value}" for variable, value in given.items()),
        str(folder),
        seconds=PATIENCE,
    )


def context(folder: Path, base: str) -> Path:
    """What an image is built from: the sources, the wheels, and things that must not get in."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in CONTEXT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text(f"{OTHER_HASH}\n")
    (folder / "secret.env").write_text("TOKEN=not for images\n")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = docker("run", "--rm", "--network=none", base, "python3", "-c", tell).out.strip()
    fetched = run(
        *(sys.executable, "-m", "pip", "download", "-q", "-d", str(folder / "wheelhouse")),
        *("--only-binary=:all:", f"--python-version={version}"),
        *told["project"]["dependencies"],
        *told["build-system"]["requires"],
        code=None,
        seconds=300,
    )
    if fetched.code:
        pytest.skip(f"pip cannot fetch the wheels for an image: {fetched.err.strip()[-300:]}")
    return folder


@pytest.fixture
def contain(images: Images) -> Iterator[StartDaemon]:
    """Starts daemons in containers as Kubernetes would: not as root, read-only but for /tmp and the volume."""
    made: list[Container] = []

    def begin(*options: str, command: Sequence[str] = (), **environ: str) -> Container:
        container = Container(images.daemon, *options, command=command, environ=environ)
        made.append(container)
        container.start()
        return container

    try:
        yield begin
    finally:
        for container in made:
            container.remove()
