"""How an answer reaches a dialog of Claude Code.

Rule: through the waiting hook wherever there is one, for then nothing is typed. Keys are for dialogs without a hook,
and only where they cannot hit the wrong thing: what is unsafe is refused with words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from oj_daemon.drivers.base import (
    Answer,
    Channel,
    Delivery,
    HookAnswer,
    Json,
    KeyAnswer,
    Keys,
    Pacing,
    Prompt,
    PromptKind,
    Question,
    QuestionAnswer,
    Refusal,
    SelectAnswer,
    Step,
)
from oj_daemon.drivers.dialogs import is_plain
from oj_daemon.drivers.fields import load
from oj_daemon.drivers.keys import ENTER, ESCAPE, UP, typed

TYPE_OPTION: Final = re.compile(r"^type (something|here)", re.IGNORECASE)
DENIED: Final = "Denied."
PLAN_MODES: Final = {2: "acceptEdits", 3: "default"}
"""Way of going on, beside `accept` -> the mode in which the plan is carried out: edits allowed, or each asked for. The first
way of the dialog, with an empty context, is out of a hook's reach: the program goes on with the context it has."""


def reach(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    """Return how an answer reaches the prompt."""
    if prompt.channel is Channel.HOOK:
        return _hook_answer(prompt, answer)
    if prompt.channel is Channel.KEYS:
        return _key_answer(prompt, answer, pacing)
    return Refusal("this dialog can only be answered at the terminal: attach to the agent")


def _hook_answer(prompt: Prompt, answer: Answer) -> Delivery:
    match prompt.kind:
        case PromptKind.QUESTION:
            return _hook_question(prompt, answer)
        case PromptKind.PLAN:
            if answer.text and answer.accept is not True:
                return _decide(allow=False, message=answer.text, choice="revise")
            if answer.accept:
                return _accept_plan(prompt, answer.option)
            return _hook_yes_no(prompt, answer)
        case _:
            return _hook_yes_no(prompt, answer)


def _hook_yes_no(prompt: Prompt, answer: Answer) -> Delivery:
    accept = answer.accept
    if answer.option is not None:
        if not 1 <= answer.option <= len(prompt.options):
            return Refusal(
                f"there is no option {answer.option}: this prompt has {len(prompt.options)}"
            )
        accept = prompt.options[answer.option - 1].lower().startswith("yes")
    if accept is None and answer.text:
        accept = False
    if accept is None:
        return Refusal("the answer says neither yes nor no")
    if accept and prompt.kind is PromptKind.PLAN:
        return _accept_plan(prompt, None)
    return _decide(
        allow=accept, message=answer.text or DENIED, choice="allow" if accept else "deny"
    )


def _accept_plan(prompt: Prompt, option: int | None) -> HookAnswer:
    # Since 2.1.330 a bare "allow" is ignored for a plan.
    decision: dict[str, object] = {"behavior": "allow", "updatedInput": load(prompt.input)}
    mode = PLAN_MODES.get(option or 0)
    if mode is not None:
        update = {"type": "setMode", "mode": mode, "destination": "session"}
        decision["updatedPermissions"] = [update]
    return HookAnswer(_hook_output(decision), "allow")


def _decide(*, allow: bool, message: str, choice: str) -> HookAnswer:
    decision = {"behavior": "allow"} if allow else {"behavior": "deny", "message": message}
    return HookAnswer(_hook_output(decision), choice)


def _hook_output(decision: Json) -> str:
    output = {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}
    return json.dumps(output, ensure_ascii=False)


def _hook_question(prompt: Prompt, answer: Answer) -> Delivery:
    given = question_answers(prompt, answer)
    if not given:
        if answer.accept is False:
            return _decide(allow=False, message=DENIED, choice="deny")
        return Refusal("the answer chooses no option and has no text")
    if len(given) != len(prompt.questions):
        return Refusal(
            f"expected {len(prompt.questions)} answers (one for each question), got {len(given)}"
        )
    answers: dict[str, str] = {}
    for number, (question, chosen) in enumerate(zip(prompt.questions, given, strict=True), start=1):
        problem = _check_choice(question, chosen, number)
        if problem:
            return Refusal(problem)
        labels = [question.options[index - 1].label for index in chosen.options]
        answers[question.question] = ", ".join([*labels, *([chosen.text] if chosen.text else [])])
    updated = {**load(prompt.input), "answers": answers}
    choice = "; ".join(answers.values())
    return HookAnswer(_hook_output({"behavior": "allow", "updatedInput": updated}), choice)


def question_answers(prompt: Prompt, answer: Answer) -> tuple[QuestionAnswer, ...]:
    """Return the answers to the questions; a plain option or text answers a single question."""
    if answer.answers:
        return answer.answers
    if len(prompt.questions) != 1 or (answer.option is None and not answer.text):
        return ()
    options = () if answer.option is None else (answer.option,)
    return (QuestionAnswer(options=options, text=answer.text),)


def _check_choice(question: Question, chosen: QuestionAnswer, number: int) -> str:
    name = question.header or f"question {number}"
    if not chosen.options and not chosen.text:
        return f"there is no answer to {name}"
    if any(not 1 <= option <= len(question.options) for option in chosen.options):
        return f"{name} has options 1 to {len(question.options)}"
    if len(chosen.options) + bool(chosen.text) > 1 and not question.multi_select:
        return f"{name} takes one answer"
    return ""


def _key_answer(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    if not prompt.ready:
        return Refusal("the options of this dialog have not been read yet: try again in a moment")
    match prompt.kind:
        case PromptKind.SETUP:
            return _select_setup(prompt, answer)
        case PromptKind.PERMISSION if prompt.subtype:
            return _select_setup(prompt, answer)
        case PromptKind.QUESTION:
            return _type_question(prompt, answer, pacing)
        case PromptKind.PLAN if answer.text and answer.accept is not True:
            return _type_revision(prompt, answer.text, pacing)
        case _:
            return _type_yes_no(prompt, answer, pacing)


def _select_setup(prompt: Prompt, answer: Answer) -> Delivery:
    if is_plain(prompt.subtype) and answer.accept is not False:
        return SelectAnswer(-1, "Enter")
    option = answer.option
    if option is None and answer.accept is not None:
        option = _find(prompt.options, "yes" if answer.accept else "no")
    if option is None or not 1 <= option <= len(prompt.options):
        return Refusal(f"choose an option from 1 to {len(prompt.options)}")
    return SelectAnswer(option, prompt.options[option - 1])


def _type_yes_no(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    option = answer.option
    if prompt.options_fallback:
        accept = answer.accept if option is None else option == 1
        return KeyAnswer((Step(ENTER if accept else ESCAPE),), "accept" if accept else "cancel")
    if option is None:
        accept = answer.accept
        if accept is None:
            return Refusal("the answer says neither yes nor no")
        option = _find(prompt.options, "yes" if accept else "no")
        if not option and not accept:
            return KeyAnswer((Step(ESCAPE),), "cancel")
    if not 1 <= option <= min(len(prompt.options), 9):
        return Refusal(f"choose an option from 1 to {len(prompt.options)}")
    keys: Keys = (Step(str(option).encode()),)
    label = prompt.options[option - 1]
    if answer.text and label.lower().startswith("no"):
        keys = (Step(str(option).encode(), pacing.delay_ms), *typed(answer.text, pacing))
    return KeyAnswer(keys, label)


def _type_revision(prompt: Prompt, text: str, pacing: Pacing) -> Delivery:
    # Refused first, then told why: the text is never dropped.
    if prompt.options_fallback:
        return KeyAnswer((Step(ESCAPE, pacing.delay_ms), *typed(text, pacing)), "revise")
    option = next((i for i, o in enumerate(prompt.options, 1) if "tell claude" in o.lower()), 0)
    option = option or _find(prompt.options, "no")
    if not option:
        return Refusal("this dialog has no option that sends the plan back")
    return KeyAnswer((Step(str(option).encode(), pacing.delay_ms), *typed(text, pacing)), "revise")


def _type_question(prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
    given = question_answers(prompt, answer)
    if not given:
        return Refusal("the answer chooses no option and has no text")
    if len(prompt.questions) != 1 or len(given) != 1 or prompt.questions[0].multi_select:
        return Refusal(
            "several questions, or one with several answers, cannot be typed safely: attach to the agent"
        )
    problem = _check_choice(prompt.questions[0], given[0], 1)
    if problem:
        return Refusal(problem)
    if given[0].text:
        option = next((i for i, o in enumerate(prompt.options, 1) if TYPE_OPTION.match(o)), 0)
        first = Step(str(option).encode() if option else UP, pacing.delay_ms)
        return KeyAnswer((first, *typed(given[0].text, pacing)), given[0].text)
    option = given[0].options[0]
    return KeyAnswer((Step(str(option).encode()),), prompt.questions[0].options[option - 1].label)


def _find(options: Sequence[str], word: str) -> int:
    return next(
        (i for i, label in enumerate(options, 1) if re.match(rf"{word}\b", label, re.IGNORECASE)), 0
    )
