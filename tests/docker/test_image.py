"""What is in the two images, and what is not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from oj_daemon import __version__
from tests.docker.conftest import GIT_HASH, ROOT, Images
from tests.docker.engine import Container, Result, docker
from tests.support.waiting import until


@pytest.fixture(params=["daemon", "agent"])
def image(request: pytest.FixtureRequest, images: Images) -> str:
    """Each of the two."""
    return str(getattr(images, request.param))


def config(image: str) -> dict[str, Any]:
    (found,) = docker("image", "inspect", image).json
    return dict(found["Config"])


def within(image: str, script: str) -> Result:
    """Run a script in a new container that can write nothing and reach nobody."""
    return docker(
        *("run", "--rm", "--pull=never", "--read-only", "--network=none"),
        *("--entrypoint=bash", image, "-euc", script),
    )


def test_it_is_of_the_commit_that_the_build_was_given_and_not_of_a_git_folder_that_lies_about(
    image: str,
) -> None:
    said = within(image, "oj --version; oj-sidecar --version").out.splitlines()
    identity = f"{__version__}+{GIT_HASH[:12]}"
    assert said == [f"oj {identity}", f"oj-sidecar {identity}"]
    assert config(image)["Labels"]["org.opencontainers.image.revision"] == GIT_HASH


def test_it_runs_as_a_user_of_its_own_with_a_home(image: str) -> None:
    assert config(image)["User"] == "65532:65532"  # numbers: Kubernetes cannot look names up
    assert within(image, "id -u; id -g; id -un").out.split() == ["65532", "65532", "oj"]
    assert within(image, 'stat -c %u "$HOME"').out.strip() == "65532"


def test_it_has_what_steps_and_agents_call(image: str) -> None:
    found = within(
        image, "git --version; ssh -V 2>&1; bash --version; ls /etc/ssl/certs/ca-certificates.crt"
    )
    assert "git version" in found.out
    assert "OpenSSH" in found.out


@pytest.mark.parametrize(
    "program", ["claude", "node", "npm", "gcc", "cc", "make", "hatchling", "pip"]
)
def test_the_daemon_has_no_agent_and_nothing_that_builds(images: Images, program: str) -> None:
    assert within(images.daemon, f"type {program} || echo none").out == "none\n"


def test_nothing_of_the_build_is_left(image: str) -> None:
    left = within(image, "ls -d /build /src /dist /app 2>/dev/null || true").out
    assert left == ""
    names = r"\( -name '*.whl' -o -name secret.env -o -name pyproject.toml \)"
    # Debian's venv brings pip as a wheel; /root and the like cannot be read.
    found = within(image, f"find / -xdev {names} -not -path '/usr/share/*' 2>/dev/null || true").out
    assert found == ""


def test_everything_that_oj_imports_is_compiled_for_nobody_can_do_it_later(image: str) -> None:
    script = (
        "PYTHONVERBOSE=1 /opt/oj/bin/python -m oj_daemon --version; PYTHONVERBOSE=1 oj job --help"
    )
    told = within(image, f"{{ {script}; }} 2>&1").out
    # Python says of each module where its code is from.
    code = re.findall(r"code object from '([^']+)'", told)
    assert [path for path in code if not path.endswith(".pyc")] == []
    assert any("/oj_cli/commands/__pycache__/job." in path for path in code)
    assert any("/oj_daemon/__pycache__/main." in path for path in code)


def test_the_programs_do_not_hide_the_python_of_steps(image: str) -> None:
    assert not within(image, "command -v python3").out.startswith("/opt/")


def test_the_daemon_image_says_how_it_is_run(images: Images) -> None:
    found = config(images.daemon)
    assert found["Entrypoint"] == ["oj", "daemon"]
    assert found["StopSignal"] == "SIGTERM"
    assert list(found["Volumes"]) == ["/var/lib/oj"]
    assert "OJ_STATE_DIR=/var/lib/oj" in found["Env"]
    assert config(images.agent)["Entrypoint"] == ["oj-sidecar"]


def test_the_agent_image_runs_an_agent_read_only_and_ends_with_its_code(images: Images) -> None:
    """Any program is an agent; its sidecar outlives it until somebody has read what there was."""
    container = Container(
        *(images.agent, "--network=none", "--tmpfs=/home/oj:uid=65532,mode=700"),
        command=[
            *("--agent=claude", "--socket=/tmp/s", "--"),
            *("bash", "-c", "touch ~/x && git --version && exit 7"),
        ],
    )
    try:
        container.start()
        until(lambda: '"code":7' in container.log(), 60, container.log, pause=0.2)
        assert container.stop() == 7, container.log()
    finally:
        container.remove()


def test_an_agent_package_that_cannot_be_installed_ends_the_build_with_the_reason(
    images: Images,
) -> None:
    done = docker(
        *("run", "--rm", "-i", "--pull=never", "--network=none", "-e", "AGENT_NPM_PACKAGE=x"),
        *("--entrypoint=sh", images.agent, "-s", "agent"),
        stdin=(ROOT / "scripts/lib/image.sh").read_text(),
        code=1,
    )
    assert "AGENT_NPM_PACKAGE needs npm: build with AGENT_BASE_IMAGE=" in done.err
