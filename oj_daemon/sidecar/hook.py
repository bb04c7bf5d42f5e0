"""The hook helper: the agent runs it, it asks the sidecar, it prints the reply.

Rule: stdlib only, no import of ours, and the agent never fails because of it: whatever goes wrong, it prints nothing
and ends with 0. Run as `python -I -S hook.py EVENT`; it is in the way of every tool the agent uses, so it loads little.

Contract: POST /api/v1/hooks/event/EVENT with the hook's stdin as body, `Authorization: Bearer
$OJ_SIDECAR_HOOK_TOKEN`, to the unix socket $OJ_SIDECAR_SOCKET or else to $OJ_SIDECAR_URL. The sidecar may take as
long as it likes to answer. The body of a 200 is printed; with the header `Oj-Run-Seconds: N` it is a script, which is
run in bash for at most N seconds and whose output is printed instead; that it failed is told as the event PrimeFailed.
When this process dies, the sidecar sees the connection close.
"""

from __future__ import annotations

import _socket  # the module `socket` takes 5 ms to load, which buys nothing here
import sys
from os import environ, killpg  # noqa: TID251 - it runs in the agent's environment, not in the daemon's

CONNECT_SECONDS = 10.0
MOST = 64 * 1024 * 1024


def main() -> None:
    """Carry one hook to the sidecar and its reply back."""
    event = sys.argv[1] if len(sys.argv) > 1 else ""
    payload = sys.stdin.buffer.read(MOST)
    try:
        seconds, body = ask(event, payload)
        if seconds:
            body = run(body, seconds)
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
    except (OSError, ValueError):
        return


def ask(event: str, payload: bytes) -> tuple[float, bytes]:
    """Send an event; return for how long the reply is to be run as a script (0: not at all), and the reply."""
    connection, host = connect()
    if connection is None or not event.isalnum():
        return 0, b""
    head = (
        f"POST /api/v1/hooks/event/{event} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {environ.get('OJ_SIDECAR_HOOK_TOKEN', '')}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    connection.sendall(head.encode() + payload)
    connection.settimeout(None)
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    connection.close()
    head, _, body = b"".join(parts).decode("latin-1").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    if first.split(" ")[1:2] != ["200"]:
        return 0, b""
    fields = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    raw = body.encode("latin-1")
    if len(raw) < int(fields.get("content-length", "0")):
        return 0, b""  # the sidecar died in the middle: half a decision is none
    return float(fields.get("oj-run-seconds", "0")), raw


def connect() -> tuple[_socket.socket | None, str]:
    """Return a connection to the sidecar and its name, or None outside of one."""
    path, url = environ.get("OJ_SIDECAR_SOCKET"), environ.get("OJ_SIDECAR_URL", "")
    if path:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(path)
        return connection, "localhost"
    if not url.startswith("http://"):
        return None, ""
    place = url[7:].partition("/")[0]
    host, _, port = place.rpartition(":")
    family = _socket.AF_INET6 if host.startswith("[") else _socket.AF_INET
    connection = _socket.socket(family, _socket.SOCK_STREAM)
    connection.settimeout(CONNECT_SECONDS)
    connection.connect((host.strip("[]"), int(port)))
    return connection, place


def run(script: bytes, seconds: float) -> bytes:
    """Run the script of a session start and return what it printed, at most for so long."""
    # Only a session start has to pay for these.
    import subprocess  # noqa: PLC0415
    from tempfile import TemporaryFile  # noqa: PLC0415

    # Files, not pipes: what a command leaves running in the background would keep a pipe open, and one argument of a
    # command may not be longer than 128 KiB.
    with TemporaryFile() as file, TemporaryFile() as output, TemporaryFile() as errors:
        file.write(script)
        file.flush()
        process = subprocess.Popen(
            ["bash", f"/dev/fd/{file.fileno()}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            pass_fds=[file.fileno()],
            start_new_session=True,
        )
        problem = ""
        try:
            if process.wait(timeout=seconds):
                problem = f"a command ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            killpg(process.pid, 9)
            process.wait()
            problem = f"it took longer than {seconds:g} s and was ended"
        output.seek(0)
        errors.seek(0)
        if problem:
            tell_failure(problem, errors.read().decode(errors="replace"))
        return output.read()


def tell_failure(problem: str, said: str) -> None:
    """Let the sidecar write down that a script failed."""
    from json import dumps  # noqa: PLC0415 - rare

    message = f"{problem}: {said.strip()[-2000:]}" if said.strip() else problem
    ask("PrimeFailed", dumps({"message": message}).encode())


if __name__ == "__main__":
    main()
