"""What the scripted agent shows and asks: the screens of the recordings, and what keys do to them.

Rule: a dialog is a value with `lines()` and `key()`; it neither reads nor writes. `key()` returns None until the
person has decided, then a Choice.
"""

from __future__ import annotations

from typing import Any

from tests.support.agent.terminal import Key

Json = dict[str, Any]

CANCEL = 0
MARK = "\u276f"
"""Stands before the input line and before the option under the cursor."""


class Choice:
    """What was decided: the number of an option (0 = cancelled), and the answers of a form."""

    def __init__(self, number: int, answers: dict[str, str] | None = None) -> None:
        self.number = number
        self.answers = answers or {}


class Dialog:
    """Text and numbered options: a digit takes one, arrows and Enter do, Escape cancels."""

    def __init__(
        self, text: list[str], options: list[str], foot: str = "", cursor: int = 1, indent: int = 1
    ) -> None:
        self.text = text
        self.options = options
        self.foot = foot
        self.cursor = cursor
        self.indent = indent
        self.numbered = True
        self.kind = ""

    def chosen(self, choice: Choice) -> str:
        """Return the option that was chosen; empty when none was."""
        return self.options[choice.number - 1] if choice.number else ""

    def lines(self, columns: int) -> list[str]:
        """Return the rows to paint."""
        rows = ["─" * columns, *self.text]
        for number, option in enumerate(self.options, 1):
            mark = MARK if number == self.cursor else " "
            shown = f"{number}. {option}" if self.numbered else option
            rows.append(f"{' ' * self.indent}{mark} {shown}")
        return [*rows, "", self.foot] if self.foot else rows

    def key(self, key: Key) -> Choice | None:
        """Take a key."""
        if key.name == "escape":
            return Choice(CANCEL)
        if key.name == "enter":
            return Choice(self.cursor)
        if key.name in ("up", "down"):
            step = 1 if key.name == "down" else -1
            self.cursor = (self.cursor - 1 + step) % len(self.options) + 1
        if key.name == "text" and self.numbered:
            for digit in key.text:
                if digit.isdigit() and 1 <= int(digit) <= len(self.options):
                    return Choice(int(digit))
        return None


class Form:
    """Questions: one page each, then a page to submit. A single question without multi-select has no such page."""

    kind = "form"

    def __init__(self, questions: list[Json]) -> None:
        self.questions = questions
        self.page = 0
        self.cursor = 1
        self.ticked: list[list[str]] = [[] for _ in questions]
        self.typed = ["" for _ in questions]
        self.short = len(questions) == 1 and not questions[0].get("multiSelect")

    def chosen(self, choice: Choice) -> str:
        """Return whether it was submitted, as the option that says so; empty when it was cancelled."""
        return "Submit answers" if choice.number else ""

    @property
    def _labels(self) -> list[str]:
        return [str(option["label"]) for option in self.questions[self.page]["options"]]

    @property
    def _many(self) -> bool:
        return bool(self.questions[self.page].get("multiSelect"))

    def lines(self, columns: int) -> list[str]:
        """Return the rows to paint."""
        heads = [
            f"{'☒' if self._answer(i) else '☐'} {question.get('header', '')}"
            for i, question in enumerate(self.questions)
        ]
        rows = ["─" * columns]
        if not self.short:
            rows.append(f"←  {'  '.join(heads)}  ✔ Submit  →")
        if self.page == len(self.questions):
            rows += ["", "Review your answers", ""]
            for index, question in enumerate(self.questions):
                rows += [f" ● {question['question']}", f"   → {self._answer(index)}"]
            rows += ["", "Ready to submit your answers?", ""]
            labels = ["Submit answers", "Cancel"]
            return rows + [f"{self._mark(n)} {n}. {label}" for n, label in enumerate(labels, 1)]
        question = self.questions[self.page]
        rows += ["", str(question["question"]), ""]
        for number, option in enumerate(question["options"], 1):
            box = ""
            if self._many:
                box = "[✔] " if option["label"] in self.ticked[self.page] else "[ ] "
            rows.append(f"{self._mark(number)} {number}. {box}{option['label']}")
            if option.get("description"):
                rows.append(("  " if self._many else "     ") + str(option["description"]))
        more = len(self._labels) + 1
        typed = self.typed[self.page] or ("Type something" if self._many else "Type something.")
        rows.append(f"{self._mark(more)} {more}. {'[ ] ' if self._many else ''}{typed}")
        if self._many:
            rows.append(f"{self._mark(more + 1)}    Submit")
        rows += ["─" * columns, f"  {more + 1}. Chat about this", ""]
        return [*rows, "Enter to select · Tab/Arrow keys to navigate · Esc to cancel"]

    def key(self, key: Key) -> Choice | None:
        """Take a key."""
        last = 2 if self.page == len(self.questions) else len(self._labels) + 1 + self._many
        match key.name:
            case "escape":
                return Choice(CANCEL)
            case "up":
                self.cursor = (self.cursor - 2) % last + 1
            case "down":
                self.cursor = self.cursor % last + 1
            case "tab" | "right":
                self._turn(1)
            case "backtab" | "left":
                self._turn(-1)
            case "enter":
                return self._take(self.cursor)
            case "text" | "paste":
                return self._text(key.text)
            case _:
                pass
        return None

    def _text(self, text: str) -> Choice | None:
        if self.page < len(self.questions) and self.cursor == len(self._labels) + 1:
            self.typed[self.page] += text
            return None
        for digit in text:
            if digit.isdigit() and digit != "0":
                choice = self._take(int(digit))
                if choice is not None:
                    return choice
        return None

    def _take(self, number: int) -> Choice | None:
        if self.page == len(self.questions):
            return {1: self._submit(), 2: Choice(CANCEL)}.get(number)
        labels = self._labels
        if number <= len(labels):
            label = labels[number - 1]
            chosen = self.ticked[self.page]
            if self._many:
                chosen.remove(label) if label in chosen else chosen.append(label)
                return None
            self.ticked[self.page] = [label]
            self.typed[self.page] = ""
        elif number == len(labels) + 1 and not self.typed[self.page]:
            self.cursor = number
            return None
        if self.short:
            return self._submit()
        self._turn(1)
        return None

    def _turn(self, step: int) -> None:
        if not self.short:
            self.page = max(0, min(self.page + step, len(self.questions)))
            self.cursor = 1

    def _mark(self, number: int) -> str:
        return MARK if number == self.cursor else " "

    def _answer(self, index: int) -> str:
        order = [str(option["label"]) for option in self.questions[index]["options"]]
        chosen = [label for label in order if label in self.ticked[index]]
        return ", ".join([*chosen, *([self.typed[index]] if self.typed[index] else [])])

    def _submit(self) -> Choice:
        given = {q["question"]: self._answer(i) for i, q in enumerate(self.questions)}
        return Choice(1, {question: answer for question, answer in given.items() if answer})


def banner(columns: int, cwd: str, version: str) -> list[str]:
    """Return the box that greets."""
    inner = max(20, columns - 2)
    head = f"─── Claude Code v{version} "
    rows = [
        "",
        "Welcome back!",
        "",
        "▐▛███▜▌",
        "▝▜█████▛▘",
        "▘▘ ▝▝",
        "",
        "Scripted agent",
        cwd[-inner:],
    ]
    return [
        f"╭{head}{'─' * (inner - len(head))}╮",
        *(f"│{row.center(inner)}│" for row in rows),
        f"╰{'─' * inner}╯",
        "",
    ]


def input_box(text: str, columns: int, foot: str, above: str = "") -> list[str]:
    """Return the input line between its rules, and what stands above and below it."""
    rule = "─" * columns
    first, *rest = text.split("\n")
    # The blank after the marker is a no-break space there too.
    rows = [rule, f"{MARK}\u00a0{first}", *(f"  {line}" for line in rest), rule, f"  {foot}"]
    return [above, "", *rows] if above else rows


def start_dialog(name: str, cwd: str, key: str, *, newer: bool) -> Dialog:
    """Return a dialog that stands before the first prompt; newer releases have no numbers, and No first."""
    dialog = _start_dialog(name, cwd, key)
    if newer:
        dialog.numbered = False
        if name == "trust":
            dialog.options.reverse()
    return dialog


def _start_dialog(name: str, cwd: str, key: str) -> Dialog:
    foot = "Enter to confirm · Esc to cancel"
    if name == "trust":
        text = [
            " Accessing workspace:",
            "",
            f" {cwd}",
            "",
            " Quick safety check: Is this a project you created or one you trust? (Like your own code, a well-known open source",
            " project, or work from your team). If not, take a moment to review what's in this folder first.",
            "",
            " Claude Code'll be able to read, edit, and execute files here.",
            "",
            " Security guide",
            "",
        ]
        return Dialog(text, ["Yes, I trust this folder", "No, exit"], " " + foot)
    if name == "key":
        text = [
            "  Detected a custom API key in your environment",
            "",
            f"  ANTHROPIC_API_KEY: sk-ant-...{key[-20:]}",
            "",
            "  Do you want to use this API key?",
            "",
        ]
        return Dialog(text, ["Yes", "No (recommended)"], "  " + foot, cursor=2, indent=2)
    text = [
        "  WARNING: Claude Code running in Bypass Permissions mode",
        "",
        "  In Bypass Permissions mode, Claude Code will not ask for your approval before running potentially dangerous",
        "  commands.",
        "  This mode should only be used in a sandboxed container/VM that has restricted internet access and can easily be",
        "  restored if damaged.",
        "",
        "  By proceeding, you accept all responsibility for actions taken while running in Bypass Permissions mode.",
        "",
        "  https://code.claude.com/docs/en/security",
        "",
    ]
    return Dialog(text, ["No, exit", "Yes, I accept"], "  " + foot, indent=2)


def permission_dialog(name: str, given: Json, cwd: str, options: int) -> Dialog:
    """Return the dialog that asks for a permission."""
    what = str(given.get("command") or given.get("file_path") or given)
    title = {"Bash": "Bash command", "Write": "Create file", "Edit": "Edit file"}.get(name, name)
    text = [f" {title}", "", f"   {what}"]
    if given.get("description"):
        text.append(f"   {given['description']}")
    text += ["", " Do you want to proceed?"]
    always = f"Yes, and don't ask again for {what.partition(' ')[0]} commands in {cwd}"
    auto = "Yes, and switch to auto mode · auto mode handles these prompts for you"
    choices = {2: ["Yes", "No"], 3: ["Yes", always, "No"], 4: ["Yes", always, auto, "No"]}[options]
    return Dialog(text, choices, " Esc to cancel · Tab to amend · ctrl+e to explain")


def plan_dialog(plan: str) -> Dialog:
    """Return the dialog that asks for a plan's approval."""
    shown = [f"  {line}" for line in plan.splitlines()[:20]]
    text = [" Exit plan mode?", "", *shown, "", "  Claude wants to exit plan mode", ""]
    dialog = Dialog(text, ["Yes", "No"], indent=2)
    dialog.kind = "plan"
    return dialog
