"""The prompts that are open in the agent: who told of them, who answers them, and how they end.

Rule: pure. A prompt is an instance with a number; an answer goes to the instance it was meant for or nowhere. Through
a waiting hook nothing is typed. A prompt that a hook or the log told of ends when one of them says so, when it is
answered, or when its dialog was seen on the screen and then was gone for a while; other tools that run beside it do not
end it. Several may be open at once: the first is shown, as the agent itself does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from oj_daemon.drivers.base import (
    AgentState,
    Answer,
    Channel,
    Dialog,
    Driver,
    Ends,
    HookAnswer,
    KeyAnswer,
    Prompt,
    PromptKind,
    Refusal,
    SelectAnswer,
    Signal,
    Tier,
)
from oj_daemon.sidecar.desk import Desk
from oj_daemon.sidecar.keyboard import Keyboard, Purpose, Typing
from oj_daemon.sidecar.selection import Selection
from oj_daemon.sidecar.standing import Standing
from oj_daemon.sidecar.turns import Turns, remember
from oj_daemon.sidecar.values import PromptOutcome, ReadScreen

FALLBACK: Final = ("Accept", "Cancel")
HOOK_TRIES: Final = 8
"""So often the screen is read before its options are typed at; until then the hook that can answer is waited for."""
TIMERS: Final = ("options", "gone", "dismiss", "select")


class Ask(msgspec.Struct):
    """A prompt that is open in the agent."""

    prompt: Prompt
    tier: int
    hook_id: int | None = None
    """The hook that waits for the answer."""
    awaits_hook: bool = False
    """Such a hook is on its way: the tool use was told of, and it needs a decision."""
    tool_use_id: str = ""
    dialog: str = ""
    """What its dialog said on the screen."""
    is_seen: bool = False
    is_answering: bool = False
    """An answer is being typed."""
    tries: int = 0
    """How often the screen was read for its options."""


class Prompts:
    """The queue of open prompts."""

    def __init__(self, desk: Desk, standing: Standing, driver: Driver, keyboard: Keyboard) -> None:
        """None is open."""
        self._desk = desk
        self._standing = standing
        self._driver = driver
        self._keyboard = keyboard
        standing.on_screen_left = self._screen_left
        self.begin_child(Turns(), ())

    def begin_child(self, turns: Turns, accept_dialogs: tuple[str, ...]) -> None:
        """Forget what was known about the last child; its prompts have been dropped."""
        self._asks: list[Ask] = []
        self._turns = turns
        self._accept_dialogs = accept_dialogs
        self._last_turn = ""
        """The turn that had a prompt by hook last: a notice in it may be late."""
        self._selection: Selection | None = None
        self._over: dict[str, None] = {}
        """Tool uses whose prompt is over."""

    @property
    def first(self) -> Ask | None:
        """The prompt that is shown."""
        return self._asks[0] if self._asks else None

    def waits(self, hook_id: int) -> bool:
        """Return whether a hook waits for an answer here."""
        return any(ask.hook_id == hook_id for ask in self._asks)

    def _sync(self) -> None:
        """Let the state know which prompt is open."""
        first = self.first
        self._standing.prompt = None if first is None else first.prompt
        self._standing.prompt_tier = int(Tier.NONE) if first is None else first.tier

    # --------------------------------------------------------------------------------------------------------- opening

    def open(self, signal: Signal, prompt: Prompt, tier: int, hook_id: int | None = None) -> None:
        """Take in that there is a prompt."""
        found = self._find(prompt, hook_id)
        if found is not None:
            self._refine(found, prompt, tier, hook_id)
            return
        tool_use_id = signal.tool_use_id or self._turns.use_of(prompt)
        if hook_id is not None and tool_use_id in self._over:
            return  # it was answered at the terminal before its hook got here
        first = self.first
        is_notice = tier < Tier.SCREEN and not prompt.tool
        if is_notice and (first is not None or self._may_be_late()):
            return  # the hook of that very dialog has spoken; if it has not, the screen will show it
        if first is not None and tier >= Tier.SCREEN > first.tier:
            return
        if first is not None and first.tier >= Tier.SCREEN:
            self._screen_left()
        ask = Ask(
            prompt, tier, hook_id, bool(prompt.tool) and hook_id is None, tool_use_id=tool_use_id
        )
        self._asks.append(ask)
        self._standing.drop_calm()
        if ask is self.first:
            self._show_first(tier, signal.cause)

    def _may_be_late(self) -> bool:
        return bool(self._last_turn) and self._last_turn == self._turns.current

    def _show_first(self, tier: int, cause: str) -> None:
        self._selection = None
        self._desk.cancel_timer("gone")
        ask, dialog = self._asks[0], self._desk.screen.dialog
        is_groomed = (
            ask.tier >= Tier.SCREEN
            and dialog is not None
            and bool(self._driver.dismiss(dialog, self._accept_dialogs))
        )
        ask.prompt = msgspec.structs.replace(ask.prompt, groomed=is_groomed)
        self._sync()
        self._standing.become(AgentState.PROMPT, tier, cause)
        if self._standing.prompt is not None:
            ask.prompt = self._standing.prompt  # now it has its number
        if not ask.prompt.ready:
            self._look_for_options()
        if is_groomed:
            self._desk.set_timer("dismiss", self._desk.timing.dismiss_delay_ms)

    def _find(self, prompt: Prompt, hook_id: int | None) -> Ask | None:
        for ask in self._asks:
            known = ask.prompt
            is_same = (
                known.kind is prompt.kind
                and (known.subtype, known.tool) == (prompt.subtype, prompt.tool)
                and (known.input == prompt.input or (bool(prompt.subtype) and not prompt.tool))
            )
            is_twice = hook_id is not None and ask.hook_id is not None
            if is_same and not is_twice:
                return ask
        return None

    def _refine(self, ask: Ask, prompt: Prompt, tier: int, hook_id: int | None) -> None:
        """The same dialog, told of again: by a hook that can answer, or with other options."""
        ask.tier = min(ask.tier, tier)
        before = ask.prompt
        if hook_id is not None:
            ask.hook_id = hook_id
            ask.awaits_hook = False
            ask.prompt = msgspec.structs.replace(prompt, seq=before.seq)
        elif tier >= Tier.SCREEN and prompt.options and prompt.options != before.options:
            ask.prompt = msgspec.structs.replace(before, options=prompt.options)
        if ask is self.first:
            self._sync()
            if ask.prompt != before:
                self._desk.cancel_timer("options")
                self._tell_again("ready")

    def _tell_again(self, cause: str) -> None:
        """Tell the open prompt again, in the same instance."""
        self._sync()
        self._desk.tell(self._standing.transition(AgentState.PROMPT, cause))

    # ---------------------------------------------------------------------------------------------------------- ending

    def end_by(self, signal: Signal) -> None:
        """End the prompts that a signal proves to be over."""
        match signal.ends:
            case Ends.NOTHING:
                return
            case Ends.TURN:
                over = [ask for ask in self._asks if ask.tier < Tier.SCREEN]
                self._close(over, "turn", Tier.HOOK, signal.cause)
            case Ends.TOOL:
                over = [ask for ask in self._asks if self._is_about(signal, ask)]
                self._close(over[:1], "terminal", Tier.HOOK, signal.cause)

    def _is_about(self, signal: Signal, ask: Ask) -> bool:
        """Return whether a finished tool use is the one that the prompt was about."""
        if ask.tier >= Tier.SCREEN:
            return False
        if signal.tool_use_id and ask.tool_use_id:
            return signal.tool_use_id == ask.tool_use_id
        if not ask.prompt.tool:
            return True  # a notice names no tool
        tool, tool_input = self._turns.tool_of(signal)
        if tool != ask.prompt.tool:
            return False
        return ask.prompt.kind is not PromptKind.PERMISSION or tool_input == ask.prompt.input

    def _close(
        self, over: list[Ask], source: str, tier: Tier, cause: str, *, choice: str = ""
    ) -> None:
        """End prompts; the next in the queue is shown, or the agent is at work again."""
        if not over:
            return
        was_shown = self.first in over
        for ask in over:
            self._asks.remove(ask)
            self._let_go(ask, source, choice)
        self._sync()
        if not was_shown:
            return
        self._desk.cancel_timer("options")
        self._desk.cancel_timer("gone")
        first = self.first
        if first is not None:
            self._show_first(first.tier, "queue")
        else:
            self._standing.become(AgentState.WORKING, tier, cause)

    def drop_all(self, source: str, choice: str = "") -> None:
        """End all prompts without a word about the state."""
        over, self._asks = self._asks, []
        for ask in over:
            self._let_go(ask, source, choice)
        self._selection = None
        self._sync()
        for name in TIMERS:
            self._desk.cancel_timer(name)

    def _screen_left(self) -> None:
        """The dialog of a screen prompt is not there any more: who answered it?"""
        selection = self._selection
        if selection is not None and selection.has_moved:
            self.drop_all(selection.source, selection.choice)
        else:
            self.drop_all("terminal")

    def _let_go(self, ask: Ask, source: str, choice: str) -> None:
        if ask.hook_id is not None:
            self._desk.let_go(ask.hook_id)
        if not ask.prompt.seq:
            return  # nobody was told of it
        if ask.tool_use_id:
            remember(self._over, ask.tool_use_id, None)
        if ask.tier < Tier.SCREEN:
            self._last_turn = self._turns.current
        prompt = ask.prompt
        self._desk.tell(
            PromptOutcome(
                source=source,
                type=str(prompt.kind),
                prompt_seq=prompt.seq,
                seq=self._desk.next_seq(),
                subtype=prompt.subtype,
                channel=str(prompt.channel),
                choice=choice,
            )
        )

    def hook_closed(self, hook_id: int) -> None:
        """The hook that waited is gone. Its dialog may still stand, or have been answered at the terminal."""
        ask = next((ask for ask in self._asks if ask.hook_id == hook_id), None)
        if ask is None:
            return
        ask.hook_id = None
        ask.tries = 0
        ask.prompt = msgspec.structs.replace(
            ask.prompt, channel=Channel.KEYS, ready=False, options=()
        )
        if ask is self.first:
            self._tell_again("hook:closed")
            self._look_for_options()

    # ---------------------------------------------------------------------------------------------------------- screen

    def see(self, signal: Signal) -> None:
        """Follow the dialog of the open prompt on the screen: its options, its mark, and whether it is gone."""
        if self._selection is not None and signal.dialog is not None:
            self._step(self._selection, signal.dialog)
        first = self.first
        if first is None:
            self._see_unknown(signal)
        elif first.tier < Tier.SCREEN:
            self._see_known(first, signal)

    def _see_known(self, ask: Ask, signal: Signal) -> None:
        dialog = signal.dialog
        is_it = dialog is not None and dialog.kind is ask.prompt.kind
        if dialog is not None and is_it and ask.is_seen and len(self._asks) > 1:
            is_it = dialog.text == ask.dialog  # else the next one of the queue stands there
        if dialog is not None and is_it:
            ask.is_seen, ask.dialog = True, dialog.text
            self._desk.cancel_timer("gone")
            is_early = ask.awaits_hook and ask.tries < HOOK_TRIES
            if not ask.prompt.ready and dialog.options and not is_early:
                self._make_ready(ask, options=dialog.options)
        elif ask.is_seen and (dialog is not None or signal.state is not None):
            self._desk.set_timer_once("gone", self._desk.timing.settle_ms)

    def _see_unknown(self, signal: Signal) -> None:
        """A dialog of which no hook told: it becomes a prompt when it stays."""
        if signal.dialog is None or signal.state is AgentState.PROMPT:
            self._desk.cancel_timer("unknown_dialog")
        else:
            self._desk.set_timer_once("unknown_dialog", self._desk.timing.settle_ms)

    def gone_due(self) -> None:
        """The dialog of the open prompt was seen and has been gone for a while: someone answered it there."""
        self._close(self._asks[:1], "terminal", Tier.SCREEN, "screen:answered")
        self._desk.out.append(ReadScreen())

    def unknown_dialog_due(self) -> None:
        """A dialog of which nobody told stands there."""
        signal = self._desk.screen
        dialog = signal.dialog
        if dialog is None or self._asks or self._standing.is_over:
            return
        is_simple = dialog.kind is not PromptKind.QUESTION
        prompt = Prompt(
            kind=dialog.kind,
            input=dialog.text,
            options=dialog.options,
            channel=Channel.KEYS if is_simple else Channel.NONE,
        )
        found = msgspec.structs.replace(signal, cause=f"screen:{dialog.kind}")
        self.open(found, prompt, Tier.SCREEN)

    # --------------------------------------------------------------------------------------------------------- options

    def _look_for_options(self) -> None:
        self._desk.out.append(ReadScreen())
        self._desk.set_timer("options", self._desk.timing.options_poll_ms)

    def options_due(self) -> None:
        """The options of the open prompt have not been read yet: look again, or do without."""
        ask = self.first
        if ask is None or ask.prompt.ready:
            return
        ask.tries += 1
        if ask.tries <= self._desk.timing.options_tries:
            self._look_for_options()
        elif ask.prompt.kind in (PromptKind.PERMISSION, PromptKind.PLAN):
            self._make_ready(ask, options=FALLBACK, options_fallback=True)
        else:
            self._make_ready(ask, channel=Channel.NONE)  # its keys would be guesses

    def _make_ready(self, ask: Ask, **changes: object) -> None:
        ask.prompt = msgspec.structs.replace(ask.prompt, ready=True, **changes)
        self._desk.cancel_timer("options")
        self._tell_again("ready")

    # ------------------------------------------------------------------------------------------------- start-up dialogs

    def dismiss_due(self) -> None:
        """A start-up dialog has stood for a while: dismiss it."""
        dialog, ask = self._desk.screen.dialog, self.first
        if ask is None or self._selection:
            return
        is_it = dialog is not None and dialog.name == ask.prompt.subtype
        option = self._driver.dismiss(dialog, self._accept_dialogs) if dialog and is_it else 0
        if not dialog or not option:
            self._leave_to_a_person()
        else:
            label = dialog.options[option - 1] if option > 0 else "Enter"
            self._select(Selection(dialog.name, option, "groom", label))

    def select_due(self) -> None:
        """Look whether the dialog followed the last key."""
        if self._selection is not None:
            self._desk.out.append(ReadScreen())

    def select_typed(self) -> None:
        """A key of a selection was typed."""
        self._desk.set_timer("select", self._desk.timing.move_ms)

    @property
    def is_selecting(self) -> bool:
        """Whether an option is on the way to being confirmed."""
        return self._selection is not None

    def _select(self, selection: Selection) -> None:
        self._selection = selection
        self._desk.set_timer("select", 0)

    def _step(self, selection: Selection, dialog: Dialog) -> None:
        if self._keyboard.under_way is not None:
            return
        move_ms = self._desk.timing.move_ms
        match selection.step(dialog, self._desk.now, move_ms):
            case "wait":
                pass
            case "look":
                self._desk.set_timer("select", move_ms)
            case "type":
                keys = self._driver.select(dialog, selection.option)
                if keys:
                    self._keyboard.push(Typing(Purpose.SELECT, keys))
                else:
                    self._give_up(dialog)
            case "give up":
                self._give_up(dialog)

    def _give_up(self, dialog: Dialog) -> None:
        self._selection = None
        self._leave_to_a_person()
        self._desk.note(f"the dialog {dialog.name} does not follow the keys: left to a person")

    def _leave_to_a_person(self) -> None:
        """The dialog was not dismissed: from now on it is a prompt like any other."""
        ask = self.first
        if ask is not None and ask.prompt.groomed:
            ask.prompt = msgspec.structs.replace(ask.prompt, groomed=False)
            self._tell_again("ready")

    # --------------------------------------------------------------------------------------------------------- answers

    def answer(self, request_id: int, answer: Answer, more: Mapping[str, object]) -> None:
        """Send an answer to the open prompt on its way and tell the caller."""
        desk, ask = self._desk, self.first
        if ask is None:
            none = {"delivered": False, "prompt_type": None, "reason": "no prompt is open"}
            desk.reply(request_id, 200, {**none, **more})
            return
        prompt = ask.prompt
        delivery = self._driver.answer(prompt, answer, desk.pacing)
        if ask.is_answering:
            delivery = Refusal("another answer to this prompt is being typed")
        kind = {"prompt_type": str(prompt.kind), "prompt_seq": prompt.seq}
        body: dict[str, object] = {"delivered": True, **kind, **more}
        match delivery:
            case Refusal(reason=reason):
                desk.reply(request_id, 200, {**body, "delivered": False, "reason": reason})
            case HookAnswer(body=text, choice=choice):
                if ask.hook_id is not None:
                    desk.let_go(ask.hook_id, text)
                    ask.hook_id = None
                desk.reply(request_id, 200, body)
                self._close([ask], "api", Tier.HOOK, "api:answered", choice=choice)
            case KeyAnswer(keys=keys, choice=choice):
                ask.is_answering = True
                self._keyboard.push(
                    Typing(
                        Purpose.ANSWER,
                        keys,
                        request_id=request_id,
                        prompt_seq=prompt.seq,
                        choice=choice,
                        body=body,
                    )
                )
            case SelectAnswer(option=option, choice=choice):
                desk.reply(request_id, 200, body)
                self._select(Selection(prompt.subtype, option, "api", choice))

    def is_open(self, seq: int) -> bool:
        """Return whether this is the prompt that is shown."""
        return self.first is not None and self.first.prompt.seq == seq

    def answer_typed(self, typing: Typing, *, is_written: bool) -> None:
        """An answer was typed. Should its dialog still stand, it becomes a prompt anew."""
        ask = self.first
        self._desk.reply(typing.request_id, 200, {**typing.body, "delivered": is_written})
        if ask is None or ask.prompt.seq != typing.prompt_seq:
            return
        ask.is_answering = False
        if is_written:
            self._close([ask], "api", Tier.SCREEN, "api:answered", choice=typing.choice)
