"""One job in full: its steps, log, story, variables, agents and decisions.

Rule: it is told of its job by a Watch of its own, which also brings what is added to the log from the byte on where the tail
that was asked for ended; so nothing of the log is missed or shown twice, whatever becomes of the connection. Another tail (of one
step) means another Watch, and what an old one still tells is not heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from oj_daemon.errors import OjError
from oj_daemon.wire.names import short_id
from oj_tui import feed as feeds
from oj_tui import render_job
from oj_tui.feed import Followed, Lost, News
from oj_tui.render import Piece
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.fact import FactScreen
from oj_tui.screens.paned import PanedPage
from oj_tui.screens.resume import ResumeMessage
from oj_tui.store import View
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.panes import Panes
from oj_tui.widgets.rows import Facts, Rows
from oj_tui.widgets.table import Column, Table

TAIL: Final = 2_000
"""Lines of the log that are asked for at first."""
STORY = (
    Column("SEQ", 3, 8, rank=2, right=True),
    Column("AT", 19, 19),
    Column("FACT", 10, 26),
    Column("CAUSE", 6, 24, rank=1),
    Column("WHAT", 10, 2_000, rank=3, takes_rest=True),
)
AGENTS = (
    Column("ID", 8, 8),
    Column("NAME", 6, 20),
    Column("STEP", 4, 20, rank=1),
    Column("STATUS", 11, 12),
    Column("AGE", 3, 6, right=True, rank=2),
    Column("WHAT", 10, 400, rank=3, takes_rest=True),
)
DECISIONS = (
    Column("ID", 8, 8),
    Column("STEP", 4, 20),
    Column("ASKS", 5, 10),
    Column("AGE", 3, 6, right=True, rank=1),
    Column("WHAT", 10, 400, takes_rest=True),
)


class JobScreen(PanedPage):
    """A job."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "pane('steps')", "Steps", show=False),
        Binding("l", "pane('log')", "Log", show=False),
        Binding("t", "pane('story')", "Story", show=False),
        Binding("v", "pane('variables')", "Variables", show=False),
        Binding("f", "filter", "Log of the step"),
        Binding("c", "cancel", "Cancel"),
        Binding("z", "suspend", "Suspend"),
        Binding("r", "resume", "Resume"),
        Binding("a", "attach", "Attach"),
        Binding("d", "decision", "Decision"),
        Binding("R", "reload", "Read the story again", show=False),
        Binding("y", "copy_id", "Copy id", show=False),
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, job_id: str, start: str = "steps") -> None:
        super().__init__()
        self.job_id = job_id
        self._start = start
        self._job: View | None = None
        """What is known of it; None until its Watch has answered."""
        self._is_gone = False
        """The daemon does not know it any more."""
        self._step = ""
        """The only step whose log is shown; empty: all."""
        self._follow: Followed | None = None
        self._has_log = False
        """The tail of the log has come, and `_follow` goes on from there."""
        self._was_lost = False
        self._story: list[View] = []

    def body(self) -> ComposeResult:
        """Which job; below that the panes."""
        yield Facts()
        log = LogPane(render_job.log_line, read=render_job.reader(), empty="asking for the log ...")
        yield Panes(
            {
                "steps": Rows(id="steps"),
                "log": log,
                "story": Table(STORY, render_job.story_row, id="story", empty="asking ..."),
                "variables": Rows(id="variables"),
                "agents": Table(AGENTS, self._agent, id="agents", empty="No agents."),
                "decisions": Table(DECISIONS, self._decision, id="decisions", empty="No question is open."),
            },
            start=self._start,
            second="log",
        )  # fmt: skip

    def on_mount(self) -> None:
        """Ask for everything."""
        for table in self.query(Table):
            table.fill([])
        self._follow = self.oj.feed.follow(self.post_message, ids=[self.job_id])
        self._ask_log()

    def on_unmount(self) -> None:
        """Ask for nothing more."""
        if self._follow is not None:
            self._follow.stop()

    # What comes

    @work(group="log", exclusive=True)
    async def _ask_log(self) -> None:
        """Ask for the tail of the log, and follow it from there."""
        step = self._step
        pane = self.query_one(LogPane)
        self._has_log = False
        of = {"step": step} if step else {}
        try:
            log = await feeds.ask(self.oj.feed, "JobLogs", id=self.job_id, lines=TAIL, **of)
        except OjError as error:
            pane.say(f"The log cannot be read: {error.message}")
            return
        self._has_log = True
        pane.clear(render_job.reader(step))
        pane.say(f"Nothing in the log{f' of step {step}' if step else ''} yet.")
        if log["content"].count("\n") >= TAIL:
            # Or one would take what a search finds for all there is.
            pane.note(f"the last {TAIL} lines; all of them: oj logs {short_id(self.job_id)} -n 0")
        pane.add(log["content"])
        if self._follow is not None:
            self._follow.stop()
        if not self._is_gone:
            logs = {self.job_id: log["offset"]}
            self._follow = self.oj.feed.follow(self.post_message, ids=[self.job_id], logs=logs)

    def on_news(self, message: News) -> None:
        """Take in what is new of this job."""
        message.stop()
        try:
            if message.follow is self._follow:
                self._take(message.follow, message.changes)
        finally:  # else nothing more would ever come
            message.follow.taken()

    def _take(self, follow: Followed, changes: View) -> None:
        for job in changes["details"]:
            self._job = job
        if changes["missing"]:
            # Asked for again, the daemon would say the same at once, again and again.
            self._is_gone = True
            follow.stop()
        chunk = changes["logs"].get(self.job_id)
        if chunk is not None and self._has_log:
            self.query_one(LogPane).add(chunk["content"], restarted=chunk["restarted"])
        if self._was_lost and not self._has_log:
            self._ask_log()
        self._was_lost = False
        if changes["details"] or changes["missing"]:
            self.draw()

    def on_lost(self, message: Lost) -> None:
        """What was known stays; the app says that the daemon is away, by its own Watch."""
        message.stop()
        self._was_lost = self._was_lost or message.follow is self._follow

    @work(group="story", exclusive=True)
    async def _ask_story(self) -> None:
        table = self.query_one("#story", Table)
        story = await self.oj.ask("JobStory", id=self.job_id)
        if story is None:
            table.empty = "The story cannot be read; R asks again."
        else:
            whole = "" if story["complete"] else " Its beginning is no longer in the log."
            table.empty = f"No facts.{whole}"
            if whole:
                self.notify(whole.strip(), markup=False)
            self._story = story["lines"]
            table.fill([{**line, "id": f"{at}"} for at, line in enumerate(self._story)])
        table.refresh()

    # What is shown

    def fill(self) -> None:
        """Draw what is known now."""
        job, now = self._job, self.oj.now()
        facts = self.query_one(Facts)
        if job is None:
            summary = self.oj.store.jobs.get(self.job_id)
            words = f"asking for job {short_id(self.job_id)} ..."
            if self._is_gone:
                words = (
                    f"There is no job {short_id(self.job_id)}, or no more: it may have been pruned."
                )
            known = render_job.headline(summary, now) if summary is not None else []
            facts.fill([*known, ("", [(words, "warn" if self._is_gone else "muted")])])
            return
        facts.fill(render_job.headline(job, now, is_gone=self._is_gone))
        panes = self.query_one(Panes)
        panes.label("variables", len(job["vars"]))
        panes.label("agents", len(job["agents"]))
        panes.label("decisions", len(job["decisions"]))
        if panes.is_shown("steps"):
            steps = self.query_one("#steps", Rows)
            steps.fill(render_job.steps(job, now, steps.size.width))
        if panes.is_shown("variables"):
            rows = self.query_one("#variables", Rows)
            rows.fill(render_job.variables(job["vars"], rows.size.width))
        if panes.is_shown("agents"):
            self.query_one("#agents", Table).fill(job["agents"])
        if panes.is_shown("decisions"):
            self.query_one("#decisions", Table).fill(job["decisions"])

    def _agent(self, agent: View) -> Sequence[Piece]:
        return render_job.agent_row(agent, self.oj.now())

    def _decision(self, decision: View) -> Sequence[Piece]:
        return render_job.decision_row(decision, self.oj.now())

    # Where to go

    def on_panes_shown(self, message: Panes.Shown) -> None:
        """A pane is drawn when it comes to the front; the story is told anew."""
        if message.pane == "story":
            self._ask_story()
        self.call_after_refresh(self.draw)

    def action_filter(self) -> None:
        """Show the log of the step under the cursor alone; or all of it again."""
        step = self.query_one("#steps", Rows).key
        self._show_log("" if step == self._step else step)

    def _show_log(self, step: str) -> None:
        if step != self._step:
            self._step = step
            self._ask_log()
        self.query_one(Panes).show("log")

    def action_back(self) -> None:
        """End the search, then the filter, then go back."""
        if self.query_one(LogPane).leave():
            return
        if self._step:
            self._show_log("")
            return
        self.dismiss()

    def action_reload(self) -> None:
        """Tell the story as it is now."""
        self._ask_story()

    def action_copy_id(self) -> None:
        """Put the id where it can be pasted from."""
        self.app.copy_to_clipboard(self.job_id)
        self.notify(f"copied {self.job_id}", markup=False)

    async def on_rows_opened(self, message: Rows.Opened) -> None:
        """A step: its agent, or its log."""
        agent = render_job.agent_of_step(self._job, message.key) if self._job else None
        if agent is not None:
            await self._open(str(agent["id"]))
        else:
            self._show_log(message.key)

    async def on_table_opened(self, message: Table.Opened) -> None:
        """A fact in full; an agent or a decision."""
        if message.table.id == "story":
            await self.app.push_screen(FactScreen(self._story[int(message.key)]))
        else:
            await self._open(message.key)

    async def _open(self, id_: str) -> None:
        from oj_tui.screens.open import open_by_id  # noqa: PLC0415 - it knows this screen

        await open_by_id(self.oj, id_)

    # What to do

    def _must_be(self) -> View | None:
        """The job, if something can be done with it; says why not."""
        if self._is_gone:
            self.notify(render_job.GONE, severity="warning", markup=False)
            return None
        if self._job is None:
            self.notify("the daemon has not told of this job yet", markup=False)
        return self._job

    @work
    async def action_cancel(self) -> None:
        """End the job for good."""
        await self._end("JobCancel", "Cancel", "Its steps are ended, then its clean-up runs.")

    @work
    async def action_suspend(self) -> None:
        """End the job so that it can be resumed."""
        await self._end("JobSuspend", "Suspend", "Its steps are ended; it can be resumed.")

    async def _end(self, request: str, verb: str, consequence: str) -> None:
        job = self._must_be()
        if job is None:
            return
        question = f"{verb} {render_job.title_of(job)}?"
        if not await self.app.push_screen_wait(Confirm(question, consequence)):
            return
        reply = await self.oj.ask(request, ids=[self.job_id])
        if reply is not None:
            done = "cancelled" if request == "JobCancel" else "suspended"
            self.notify(render_job.ended_words(reply, done), markup=False)

    @work
    async def action_resume(self) -> None:
        """Let a failed or suspended job go on."""
        job = self._must_be()
        if job is None:
            return
        if job["status"] not in ("failed", "suspended"):
            words = f"it is {job['status']}: only what failed or was suspended can be resumed"
            self.notify(words, severity="warning", markup=False)
            return
        message: str | None = ""
        if render_job.has_agent_step(job):
            message = await self.app.push_screen_wait(ResumeMessage(render_job.title_of(job)))
        if message is None:
            return
        reply = await self.oj.ask("JobResume", id=self.job_id, message=message or None)
        if reply is not None:
            at = f" at {', '.join(reply['steps'])}" if reply["steps"] else ""
            self.notify("\n".join([f"resumed{at}", *reply["warnings"]]), markup=False)

    def action_attach(self) -> None:
        """Enter the newest live agent."""
        job = self._must_be()
        if job is None:
            return
        agent = render_job.newest_live_agent(job)
        if agent is None:
            self.notify("no agent of this job is live", severity="warning", markup=False)
        else:
            self.oj.run_oj("attach", str(agent["id"]))

    async def action_decision(self) -> None:
        """Answer what is asked."""
        job = self._must_be()
        if job is None:
            return
        if not job["decisions"]:
            self.notify("no question of this job is open", markup=False)
        elif len(job["decisions"]) == 1:
            await self._open(str(job["decisions"][0]["id"]))
        else:
            self.query_one(Panes).show("decisions")
