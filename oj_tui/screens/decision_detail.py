"""One decision: what it is about, and the answer to it.

Rule: only one that is open takes an answer, and whether the answer fits is the daemon's to say. What cannot be taken back asks
first.
"""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from oj_daemon.errors import OjError
from oj_daemon.wire import answers
from oj_daemon.wire.names import short_id
from oj_tui import feed, render_decision
from oj_tui.render import clean
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.page import Page
from oj_tui.store import View
from oj_tui.widgets.choices import Choice, Choices
from oj_tui.widgets.document import Document, shows_all
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.form import Form, Question
from oj_tui.widgets.lines import Lines
from oj_tui.widgets.message_line import MessageLine


class DecisionScreen(Page):
    """One decision."""

    DIGITS: ClassVar = False  # whoever pressed one of those in the tabs would answer

    BINDINGS: ClassVar[list[BindingType]] = [
        # The keys of the modes: here they choose.
        *(
            Binding(str(number), f"number({number})", "Choose", show=False)
            for number in range(1, 10)
        ),
        Binding("t", "own_words", "Own words", priority=True),
        Binding("a", "attach", "Attach"),
        Binding("o", "reopen", "Reopen"),
        Binding("v", "raw", "As written"),
        Binding("y", "copy", "Copy the id", show=False),
        Binding("ctrl+s", "submit", "Submit", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Read up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Read down", show=False),
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, decision_id: str) -> None:
        super().__init__()
        self._decision_id = decision_id
        self._view: View | None = None
        """As it was told last."""
        self._is_known = False
        """News tell of it; one that is closed has to be asked for."""
        self._is_asked = False
        self._problem = ""
        self._built: tuple[object, ...] = ()
        """What the body was made for."""
        self._pending: list[list[int]] = []
        """What was chosen and waits for its message."""
        self._is_sending = False
        self._is_raw = False

    def body(self) -> ComposeResult:
        """Who asks and what about, which scrolls; below it what can be answered."""
        yield Lines(classes="head")
        yield VerticalScroll(id="context")
        yield VerticalScroll(id="answer", can_focus=False)
        yield MessageLine()

    def on_screen_resume(self) -> None:
        """It may have been answered meanwhile."""
        self._is_asked = False
        super().on_screen_resume()

    @property
    def is_open(self) -> bool:
        """Whether an answer is taken."""
        return self._is_known and self._view is not None and self._view["status"] == "open"

    def fill(self) -> None:
        """Take what is known now; ask for what news do not tell of."""
        known = self.oj.store.decisions.get(self._decision_id)
        self._is_known = known is not None
        if known is not None:
            self._view, self._is_asked, self._problem = known, False, ""
        elif self.oj.store.is_filled and self.oj.lost is None and not self._is_asked:
            self._is_asked = True
            self._ask_for_it()
        head = self.query_one(".head", Lines)
        view = self._view
        if view is None:
            words = self._problem or f"asking for decision {short_id(self._decision_id)} ..."
            head.put([[(clean(words), "bad" if self._problem else "muted")]])
            return
        lines = render_decision.decision_head(view, self.oj.now())
        if not self._is_known and view["status"] == "open":
            lines.append([(clean(self._problem) or "it is open no more; asking why ...", "warn")])
        head.put(lines)
        wanted = (
            view["status"], self.is_open, self._is_raw, view["context"], view["options"], view["question_groups"],
        )  # fmt: skip
        if wanted != self._built:
            self._built = wanted
            self.refresh_bindings()
            self._build(view)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only keys that would do something are shown."""
        view = self._view
        if action == "own_words":
            return self.is_open and super().check_action(action, parameters)
        if action == "reopen":
            return view is not None and view["status"] == "dismissed"
        if action == "raw":
            return view is not None and bool(render_decision.split_plan(view)[1])
        return super().check_action(action, parameters)

    @work(exclusive=True, group="show")
    async def _ask_for_it(self) -> None:
        try:
            self._view = await feed.ask(self.oj.feed, "DecisionShow", id=self._decision_id)
            self._problem = ""
        except OjError as error:
            self._problem = error.message
            self.draw()
            # What is not there will not come; whoever could not be asked is asked again, but not by this drawing.
            self._is_asked = error.code == "not_found"
            return
        self.draw()

    @work(exclusive=True, group="build")
    async def _build(self, view: View) -> None:
        """Make the body for what is asked now."""
        context, answer = self.query_one("#context"), self.query_one("#answer")
        is_typing = self.query_one(MessageLine).display
        await context.remove_children()
        await answer.remove_children()
        head, plan = render_decision.split_plan(view)
        about = [Static(render_decision.plain(head), markup=False, classes="context")]
        plan = render_decision.plain(plan)
        is_raw = self._is_raw
        if plan and not is_raw and not shows_all(plan):
            is_raw = True
            words = "As it was written: laid out as a document, part of it would not be seen."
            about.append(Static(words, markup=False, classes="context"))
        if plan and is_raw:
            about.append(Static(plan, markup=False, classes="context"))
        await context.mount(*about)
        if plan and not is_raw:
            await context.mount(Document(plan))
        if not self.is_open:
            self._pending = []
            if is_typing:
                self.query_one(MessageLine).close()
                self.notify("it takes no answer any more", severity="warning", markup=False)
            take_focus(context)
            return
        await answer.mount(Form(_questions(view)) if _is_form(view) else Choices(_options(view)))
        if not is_typing:
            take_focus(answer.query(Choices).first())

    # Choosing

    def action_number(self, number: int) -> None:
        """Choose by a digit: in the list where one is, else in the first."""
        lists = list(self.query(Choices))
        here = self.focused if isinstance(self.focused, Choices) else next(iter(lists), None)
        if here is None:
            self.notify("it takes no answer", severity="warning", markup=False)
        elif number not in here.numbers:
            self.notify(f"there is no option {number}", severity="warning", markup=False)
        else:
            take_focus(here)
            here.choose(number)

    def on_choices_chosen(self, message: Choices.Chosen) -> None:
        """An option of the one list there is."""
        message.stop()
        if self._view is not None and self.is_open:
            self._choose([[message.number]])

    def _choose(self, choices: list[list[int]], text: str = "") -> None:
        """Send it, or ask for what is still needed."""
        view = self._view
        if view is None:
            return
        words = [answers.own_label(view, number) for number in choices[0]]
        line = self.query_one(MessageLine)
        if answers.CANCEL in words:
            self._cancel(choices)
        elif any(word in answers.MESSAGE_NEEDED for word in words) and not text:
            self._pending = choices
            line.open(f"{words[0]}: say what instead (Enter sends, Esc leaves)")
        elif any(word in answers.MESSAGE_FOR for word in words):
            self._pending = choices
            line.open(f"{words[0]}: message for the agent (Enter alone: none, Esc leaves)")
        else:
            self._send(choices, text)

    def action_own_words(self) -> None:
        """Answer without an option."""
        self._pending = []
        self.query_one(MessageLine).open("your answer (Enter sends, Esc leaves)")

    def on_message_line_left(self, message: MessageLine.Left) -> None:
        """Nothing was chosen after all."""
        message.stop()
        self._pending = []

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The message is written."""
        event.stop()
        view = self._view
        if not isinstance(event.input, MessageLine) or view is None:
            return
        problem = "" if event.value.strip() else self._lacks(view)
        if problem:
            self.notify(problem, severity="warning", markup=False)
        else:
            self._send(self._pending, event.value)

    def _lacks(self, view: View) -> str:
        """What an answer without a message lacks."""
        if not self._pending:
            return "nothing was written"
        return answers.missing(view, self._pending, {})

    def on_form_filled(self, message: Form.Filled) -> None:
        """All questions at once."""
        message.stop()
        view = self._view
        if view is None or not self.is_open:
            return
        problem = answers.missing(view, message.choices, message.texts)
        if problem:
            self.notify(problem, severity="warning", markup=False)
        elif len(view["question_groups"]) > 1:
            groups = view["question_groups"]
            text = answers.message_of(message.choices, message.texts, groups)
            self._send(message.choices, text)
        else:
            self._choose(message.choices, message.texts.get(0, ""))

    def action_submit(self) -> None:
        """Send the form."""
        for form in self.query(Form):
            form.submit()

    # Sending

    @work
    async def _cancel(self, choices: list[list[int]]) -> None:
        """End the job, if that is meant."""
        view = self._view
        if view is None:
            return
        is_crew = str(view["owner_id"]).startswith("crw-")
        what = f"{'agent' if is_crew else 'job'} {clean(answers.owner_name(view))}"
        asks = Confirm(f"Cancel {what}?", "All that runs for it is ended.")
        if await self.app.push_screen_wait(asks):
            self._send(choices, "")

    @work
    async def _send(self, choices: list[list[int]], message: str) -> None:
        view = self._view
        if view is None or self._is_sending:
            return
        self._is_sending = True
        sent = await self.oj.ask(
            "DecisionResolve",
            id=self._decision_id,
            choices=choices,
            message=message,
            by=answers.user_name(),
            channel="tui",
        )
        self._is_sending = False
        if sent is None:
            # Somebody else may have been faster.
            self.draw()
            return
        self.query_one(MessageLine).close()
        what = answers.chosen({**view, "choices": choices}) or message
        others = [each for each in self.oj.store.open_decisions() if each["id"] != view["id"]]
        left = render_decision.left_open(len(others))
        self.notify(f"answered: {clean(what)}" + (f"\n{left}" if left else ""), markup=False)
        if self.is_current:
            self.app.pop_screen()

    # Anything else

    @work
    async def action_reopen(self) -> None:
        """Ask again what was put aside."""
        opened = await self.oj.ask("DecisionReopen", id=self._decision_id)
        if opened is not None:
            self.notify("it is open again", markup=False)

    def action_attach(self) -> None:
        """Enter the terminal of the agent that asks."""
        if self._view is not None and self._view["agent_id"]:
            self.oj.run_oj("attach", str(self._view["agent_id"]))
            self.refresh(layout=True)
            self.draw()

    def action_copy(self) -> None:
        """Put its id into the clipboard."""
        self.oj.copy_to_clipboard(self._decision_id)
        self.notify(f"copied: {self._decision_id}", markup=False)

    def action_raw(self) -> None:
        """Show a plan as it was written, or as a document again."""
        self._is_raw = not self._is_raw
        self.draw()

    def action_page(self, by: int) -> None:
        """Read on."""
        context = self.query_one("#context")
        context.scroll_relative(y=by * max(1, context.size.height - 1), animate=False)

    def action_back(self) -> None:
        """Leave a text; else go back to where one came from."""
        lists = list(self.query(Choices))
        if isinstance(self.focused, Input) and lists:
            take_focus(lists[0])
        else:
            self.app.pop_screen()


def _is_form(view: View) -> bool:
    """Whether several answers are to be given."""
    groups = view["question_groups"]
    return len(groups) > 1 or any(group["multi_select"] for group in groups)


def _options(view: View) -> list[Choice]:
    """All options; `oj`'s own go with no other."""
    return [
        Choice(
            number=option["number"],
            lines=render_decision.option_lines(option),
            is_alone=bool(answers.own_label(view, option["number"])),
        )
        for option in view["options"]
    ]


def _questions(view: View) -> list[Question]:
    """The questions of a form; a single one has `oj`'s own options as well."""
    groups = view["question_groups"]
    made = []
    for at, group in enumerate(groups, 1):
        count = len(group["options"])
        own = [
            Choice(number=option["number"], lines=render_decision.option_lines(option))
            for option in group["options"]
        ]
        # The daemon takes a text or numbers for one question, not both.
        other = Choice(number=count + 1, lines=[[(answers.OTHER, "")]], is_alone=True)
        made.append(
            Question(
                title=render_decision.question_title(group, at, len(groups)),
                options=_options(view) if len(groups) == 1 else [*own, other],
                several=group["multi_select"],
                other=count + 1,
            )
        )
    return made
