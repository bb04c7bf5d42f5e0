"""Inside a container: the file system that it sees, and then its program. `python -I -S enter.py CONTAINER.json`.

Rule: run in mount and PID namespaces of its own, as root. Nothing of the machine is written to: the new root is a tmpfs, into
which the machine's folders are bound, and which ends with the namespace.
"""

# ruff: noqa: PTH103,PTH115,PTH118,PTH123,PTH208,PTH211 - pathlib would double the time that a container takes to start
from __future__ import annotations

import ctypes
import json
import os
import stat
import sys

BIND, REC, REMOUNT, READ_ONLY = 0x1000, 0x4000, 0x20, 0x1
LIBC = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """As mount(2)."""
    if LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def mirror(path: str, root: str, taken: list[str], files: dict[str, str]) -> None:
    """Let the container see what is at `path`, but for the places that volumes take."""
    target = root + path
    if path in files:
        with open(target, "wb"):
            pass
        mount(files[path], target, flags=BIND)
        return
    if path in (*taken, "/proc"):
        os.makedirs(target, exist_ok=True)
        return
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(path), target)
    elif stat.S_ISDIR(mode):
        os.makedirs(target, exist_ok=True)
        if not any(each.startswith(path.rstrip("/") + "/") for each in (*taken, *files)):
            mount(path, target, flags=BIND | REC)
            return
        for name in os.listdir(path):
            mirror(os.path.join(path, name), root, taken, files)
    elif stat.S_ISREG(mode):
        with open(target, "wb"):
            pass
        mount(path, target, flags=BIND)


def enter(wanted: dict[str, object]) -> None:
    """Make the root, and go there."""
    root = str(wanted["root"])
    mounts = [(str(source), os.path.realpath(str(target)), is_read_only)
              for source, target, is_read_only in wanted["mounts"]]  # type: ignore[attr-defined]  # fmt: skip
    mount("pod", root, "tmpfs", 0, "mode=755")
    taken = [target for _, target, _ in mounts]
    files: dict[str, str] = dict(wanted["files"])  # type: ignore[call-overload]  # of the kubelet
    for name in os.listdir("/"):
        mirror(f"/{name}", root, taken, files)
    for source, target, is_read_only in sorted(mounts, key=lambda each: len(each[1])):
        inside = root + target
        os.makedirs(inside, exist_ok=True)
        mount(source, inside, flags=BIND | REC)
        if is_read_only:
            mount("", inside, flags=BIND | REMOUNT | READ_ONLY)
    os.makedirs(f"{root}/proc", exist_ok=True)
    mount("proc", f"{root}/proc", "proc")
    os.chroot(root)
    os.makedirs(str(wanted["cwd"]), exist_ok=True)
    os.chdir(str(wanted["cwd"]))


def main() -> None:
    """Become the program."""
    with open(sys.argv[1], encoding="utf-8") as file:
        wanted = json.load(file)
    # Opened before the root changes: what goes wrong is read by the kubelet.
    trouble = os.open(wanted["trouble"], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    argv = wanted["argv"]
    try:
        enter(wanted)
        os.execvpe(argv[0], argv, wanted["env"])
    except OSError as error:
        os.write(trouble, f'exec: "{argv[0]}": {error}'.encode())
        os._exit(128)


if __name__ == "__main__":
    main()
