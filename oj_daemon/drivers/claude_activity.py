"""What an entry of Claude Code's session log says that the agent has done.

Rule: pure and without memory. A command and its result stand in two entries; whoever reads both pairs them by `key`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from oj_daemon.drivers.activity import Activity, Deed
from oj_daemon.drivers.base import Json
from oj_daemon.drivers.fields import as_number, as_text, compact

FILES: Final = {
    "Read": Deed.READ,
    "NotebookRead": Deed.READ,
    "Write": Deed.WROTE,
    "Edit": Deed.EDITED,
    "MultiEdit": Deed.EDITED,
    "NotebookEdit": Deed.EDITED,
}
PATHS: Final = ("file_path", "notebook_path", "path")
_EXIT: Final = re.compile(r"Exit code (\d+)")
_OJ: Final = re.compile(r"\s*oj\s+(\S.*)", re.DOTALL)


def read(entry: Json) -> list[Activity]:
    """Return what was done, in order."""
    match entry.get("type"):
        case "assistant":
            return list(_assistant(entry))
        case "user":
            return list(_results(entry))
        case "system":
            return list(_system(entry))
        case _:
            return []


def _assistant(entry: Json) -> Iterator[Activity]:
    if entry.get("isApiErrorMessage") is True or entry.get("error"):
        texts = [as_text(block.get("text")) for block in _blocks(entry)]
        said = " ".join(text for text in texts if text) or as_text(entry.get("error"))
        yield Activity(Deed.ERROR, said or "unknown")
        return
    for block in _blocks(entry):
        if block.get("type") != "tool_use":
            continue
        found, name = block.get("input"), as_text(block.get("name"))
        given: Json = found if isinstance(found, Mapping) else {}
        if name in FILES:
            paths = (as_text(given.get(word)) for word in PATHS)
            yield Activity(FILES[name], next((path for path in paths if path), "?"))
        elif name == "Bash":
            command, key = as_text(given.get("command")), as_text(block.get("id"))
            ours = _OJ.fullmatch(command)
            deed, said = (Deed.BASH, command) if ours is None else (Deed.OJ, ours[1])
            yield Activity(deed, said, key)


def _results(entry: Json) -> Iterator[Activity]:
    for block in _blocks(entry):
        if block.get("type") != "tool_result":
            continue
        text = _text_of(block.get("content"))
        how = "exit 0"
        if block.get("is_error") is True:
            code = _EXIT.match(text)
            how = f"exit {code[1]}" if code is not None else "refused or failed"
        said = entry.get("toolUseResult")
        if isinstance(said, Mapping) and said.get("interrupted") is True:
            how = "interrupted"
        yield Activity(Deed.RESULT, how, as_text(block.get("tool_use_id")))


def _system(entry: Json) -> Iterator[Activity]:
    if entry.get("subtype") == "turn_duration":
        yield Activity(Deed.TURN)
    elif entry.get("subtype") == "api_error":
        found = entry.get("error")
        said = as_text(found.get("message")) if isinstance(found, Mapping) else as_text(found)
        said = said or compact(found)
        attempt, most = as_number(entry.get("retryAttempt")), as_number(entry.get("maxRetries"))
        again = f" (try {attempt} of {max(attempt, most)})" if attempt else ""
        yield Activity(Deed.ERROR, f"{said or 'the API failed'}{again}")


def _blocks(entry: Json) -> list[Json]:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, Mapping)]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(as_text(part.get("text")) for part in content if isinstance(part, Mapping))
