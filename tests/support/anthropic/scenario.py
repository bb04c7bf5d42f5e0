"""What the loopback API server answers, and how it finds out what it was asked.

Rule: the answer is a function of the request wherever it can be. The prompt is the last thing a person said (or a stop
hook, which speaks as one), the step is how many answers the model has given to it since; a retried request therefore gets
the same answer again. Only `times` counts, and it counts prompts and answers, not connections.

A scenario is a JSON object (a file or the same as a dict):

    {"title": "Session title",                     what the small request for a title gets
     "summary": "What happened.",                  what a compaction gets
     "usage": {"input_tokens": 1200, ...},         default usage of every answer
     "turns": [TURN, ...],                         the first that matches a prompt and is not used up answers it
     "otherwise": ANSWER}                          default {"say": "All done: {prompt}"}

    TURN = {"when": "regular expression",          searched in the prompt; missing = any prompt
            "times": 1,                            how many prompts it may serve; missing = all
            "answers": [ANSWER, [ANSWER, ...]]}    one for each step: first the prompt, then every round of tool results;
                                                   after the last comes `otherwise`. A list within is used up in order
                                                   by `times` of its members, the last one for ever

    ANSWER, content, in this order:
            {"think": "text", "say": "text", "tools": [{"name": "Bash", "input": {...}}],
             "tool": "Bash", "input": {...},       short for one tool
             "stop": "end_turn", "usage": {...}}
    ANSWER, failure: {"status": 429, "type": "rate_limit_error", "message": "text", "retry_after": 1}
            type and message have defaults by status; {"status": 400} is the empty purse
    ANSWER, trouble (with content):
            "hold": "name"         nothing is sent until server.release("name") or POST /_control/release/name
            "pause": 0.2           seconds between the events of the stream
            "cut": 4               the connection breaks in the middle of the event after the fourth; this and error_after
                                   only where a stream was asked for (Claude Code asks again without, and gets it whole)
            "error_after": 4       after so many events the stream says `error` (type, message) and ends
            "endless": true        the text is repeated until the client goes away
            "times": 2             uses within a list of alternatives

In texts and tool inputs, {prompt} stands for the prompt's first line and {result} for the last tool result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

Json = dict[str, Any]

ERRORS: Final = {
    400: ("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit"),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}
"""Type and message that the real API gives with a status."""

NOT_SAID = (
    "<system-reminder>",
    "<local-command-",
    "<command-name>",
    "<bash-",
    "[Request interrupted by user",
)
"""How texts begin that stand in a user message though no person said them."""
COMPACTION = "CRITICAL: Respond with TEXT ONLY"
"""Stands in the request that asks for a summary of the conversation."""


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tool call."""

    name: str
    input: Json = {}


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reply to `POST /v1/messages`."""

    think: str = ""
    say: str = ""
    tools: tuple[Tool, ...] = ()
    tool: str = ""
    input: Json = {}
    stop: str = ""
    usage: dict[str, int] = {}
    status: int = 200
    type: str = ""
    message: str = ""
    retry_after: float | None = None
    hold: str = ""
    pause: float = 0.0
    cut: int | None = None
    error_after: int | None = None
    endless: bool = False
    times: int = 1

    @property
    def calls(self) -> tuple[Tool, ...]:
        """All tool calls, the short one too."""
        return (*self.tools, Tool(self.tool, self.input)) if self.tool else self.tools


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a prompt is answered, step by step."""

    answers: tuple[Answer | tuple[Answer, ...], ...]
    when: str = ""
    times: int | None = None


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the server knows to say."""

    turns: tuple[Turn, ...] = ()
    title: str = "A test session"
    summary: str = "What happened."
    otherwise: Answer = Answer(say="All done: {prompt}")
    usage: dict[str, int] = {}


def load(source: Path | Mapping[str, Any]) -> Scenario:
    """Read a scenario from a file or from the same as a dict; msgspec.ValidationError names a mistake."""
    if isinstance(source, Path):
        return msgspec.json.decode(source.read_bytes(), type=Scenario)
    return msgspec.convert(source, type=Scenario)


def texts(content: object) -> list[str]:
    """Return the text blocks of a message's content."""
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    return [
        str(b.get("text", "")) for b in blocks if isinstance(b, dict) and b.get("type") == "text"
    ]


def said(message: Json) -> str:
    """Return what a person said in the message; empty when nobody did."""
    if message.get("role") != "user":
        return ""
    kept = [text for text in texts(message.get("content")) if not text.startswith(NOT_SAID)]
    return "\n".join(text for text in kept if text.strip())


def results(message: Json) -> list[str]:
    """Return the texts of the tool results in the message."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    found = [b for b in blocks if isinstance(b, dict) and b.get("type") == "tool_result"]
    return ["\n".join(texts(block.get("content"))) for block in found]


class Asked(msgspec.Struct, frozen=True):
    """What a request to the messages endpoint comes down to."""

    prompt: str
    """The last words of a person."""
    number: int
    """Which prompt of its conversation that is, from 1."""
    step: int
    """How many answers the model has given to it so far."""
    result: str
    """The last tool result since the prompt."""
    session: str
    """The client's session id."""
    tools: tuple[str, ...]
    """Names of the tools on offer; a request for a title has none."""

    @classmethod
    def of(cls, body: Json) -> Asked:
        """Read it off a request body."""
        prompt, number, step, result = "", 0, 0, ""
        for message in body.get("messages", []):
            words = said(message)
            # A refused tool comes with a text beside the result: that is no new prompt.
            answers = results(message)
            if words and not answers:
                prompt, number, step, result = words, number + 1, 0, ""
            elif message.get("role") == "assistant":
                step += 1
            elif answers:
                result = answers[-1]
        tools = tuple(str(tool.get("name")) for tool in body.get("tools") or [])
        return cls(prompt, number, step, result, session_of(body), tools)


def session_of(body: Json) -> str:
    """Return the session id that the client hides in metadata.user_id."""
    user = str(body.get("metadata", {}).get("user_id", ""))
    try:
        return str(json.loads(user).get("session_id", ""))
    except (ValueError, AttributeError):
        return user.rpartition("session_")[2]


class Chooser:
    """Finds the answer to a request; holds what `times` counts."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._served: dict[int, set[tuple[str, int]]] = {}
        self._used: dict[tuple[str, int, int, int], int] = {}

    def choose(self, asked: Asked) -> Answer:
        """Return the answer for this prompt at this step."""
        for index, turn in enumerate(self.scenario.turns):
            if turn.when and not re.search(turn.when, asked.prompt):
                continue
            instance = (asked.session, asked.number)
            served = self._served.setdefault(index, set())
            if instance not in served and turn.times is not None and len(served) >= turn.times:
                continue
            served.add(instance)
            return self._step(index, turn, asked)
        return self.scenario.otherwise

    def _step(self, index: int, turn: Turn, asked: Asked) -> Answer:
        if asked.step >= len(turn.answers):
            return self.scenario.otherwise
        choice = turn.answers[asked.step]
        if isinstance(choice, Answer):
            return choice
        key = (asked.session, asked.number, index, asked.step)
        use = self._used[key] = self._used.get(key, 0) + 1
        for answer in choice:
            use -= answer.times
            if use <= 0:
                return answer
        return choice[-1]


def fill(value: object, asked: Asked) -> object:
    """Put the prompt and the last result into every string of a text or a tool input."""
    if isinstance(value, str):
        first = asked.prompt.partition("\n")[0]
        return value.replace("{prompt}", first).replace("{result}", asked.result)
    if isinstance(value, dict):
        return {key: fill(item, asked) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, asked) for item in value]
    return value
