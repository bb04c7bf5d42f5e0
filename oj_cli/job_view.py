"""A job as text: its header, its steps, its graph, its variables.

Rule: pure. JobDetail and the present moment in, lines for `oj_cli.output` out.
"""

from __future__ import annotations

from oj_cli import output
from oj_daemon.wire.format import duration, elapsed, moment
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import cut, one_line, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.output import Text

    Line = list[Text]

ACTIVE = ("pending", "running", "waiting")
"""A run of a step that has not ended."""
SCOPES = ("var", "local", "source", "invoke", "args")
DETAIL_WIDTH = 40
VALUE_WIDTH = 80


def lines(job: dict[str, Any], now: int, *, verbose: bool, is_far: bool = False) -> list[Line]:
    """Everything that `oj job show` prints; of a daemon on another machine its paths as well, and that they are there."""
    return [
        *_header(job, now, " (on the daemon's machine)" if is_far else ""),
        *_steps(job, now, verbose=verbose),
        *_agents(job),
        *_decisions(job, now),
        *_graph(job, verbose=verbose),
        *_variables(job["vars"], verbose=verbose),
    ]


def name_of(job: dict[str, Any]) -> str:
    """What to call a job: its name; a job without one is called by its kind."""
    return str(job["kind"] if job["name"] == job["id"] else job["name"])


def title_of(job: dict[str, Any]) -> str:
    """A job in a sentence."""
    return f"Job {name_of(job)} ({short_id(job['id'])})"


def doing(job: dict[str, Any], now: int) -> str:
    """What the job is doing at this moment and for how long; empty when nothing is active."""
    active = [_activity(run, now) for run in job["steps"] if run["status"] in ACTIVE]
    if active or job["finished_at_ms"] or job["status"] not in ("pending", "running", "ending"):
        return ", ".join(active)
    words = {"pending": "getting ready", "ending": "ending its steps"}
    return (
        f"{words.get(job['status'], 'between steps')} (for {elapsed(now - job['updated_at_ms'])})"
    )


def step_time(run: dict[str, Any], now: int) -> str:
    """How long a run of a step took or has been going on; `-` before it starts."""
    if not run["started_at_ms"]:
        return "-"
    return duration((run["finished_at_ms"] or now) - run["started_at_ms"])


def detail_of(run: dict[str, Any]) -> str:
    """Why a run of a step is as it is, where that says more than its status."""
    detail = str(run["detail"]).strip()
    return "" if run["status"] == "completed" or detail == run["status"] else detail


def _header(job: dict[str, Any], now: int, where: str) -> list[Line]:
    ended = job["finished_at_ms"]
    age = elapsed((ended or now) - job["created_at_ms"])
    status = job["status"]
    place = job["workspace_path"]
    workspace = job["workspace"]
    waits_for = ""
    if workspace is not None:
        waits_for = workspace.get("waits_for", "")
        notes = [
            workspace["kind"],
            *([f"branch {workspace['branch']}"] if workspace["branch"] else []),
        ]
        if workspace["status"] != "ready":
            why = f": {workspace['reason']}" if workspace["reason"] else ""
            notes.append(f"{workspace['status']}{why}")
        where_it_is = f" in pod {workspace['place']}" if workspace.get("place") else where
        place = f"{workspace['path']}{where_it_is} ({', '.join(notes)})"
    now_doing = doing(job, now)
    is_told = now_doing and job["status"] != "waiting"
    reason = "" if is_told or job["reason"] == job["error"] else job["reason"]
    fields: list[tuple[str, Line]] = [
        ("Crew" if job["id"].startswith("crw-") else "Job", [output.literal(job["id"])]),
        ("Name", [job["name"]] if job["name"] not in (job["kind"], job["id"]) else []),
        ("Kind", [job["kind"]]),
        ("Project", [job["project"]]),
        ("Status", [output.status(status), f" (after {age})" if ended else f" (for {age})"]),
        ("Now", [now_doing]),
        ("Waits", [waits_for]),
        ("Reason", [reason]),
        ("Error", [output.Span(job["error"], output.RED if job["error"] else "")]),
        ("Started", [moment(job["created_at_ms"])]),
        ("Ended", [moment(ended)] if ended else []),
        ("Retries", [str(job["retries"])] if job["retries"] else []),
        ("Workspace", [place]),
        ("Runbook", [job["runbook"]]),
        ("Log", [job["log_path"], where]),
    ]
    made: list[Line] = []
    for label, parts in fields:
        first, *rest = "".join(output.plain(part) for part in parts).split("\n")
        if first or rest:
            shown: Line = list(parts) if not rest else [first]
            made.append([output.header(f"{label}:"), " " * (10 - len(label)), *shown])
            made.extend([" " * 11, more] for more in rest)
    return made


def _steps(job: dict[str, Any], now: int, *, verbose: bool) -> list[Line]:
    runs = job["steps"]
    entered = {run["name"] for run in runs}
    to_come = [] if job["finished_at_ms"] else _to_come(job, entered)
    if not runs and not to_come:
        return []
    rows: list[list[Text]] = []
    full: list[str] = []
    for run in runs:
        notes = _notes(run, now)
        detail = detail_of(run)
        first = one_line(detail.strip())
        short = first if verbose else cut(first, DETAIL_WIDTH)
        text = " ".join(part for part in (f"({', '.join(notes)})" if notes else "", short) if part)
        rows.append([run["name"], step_time(run, now), output.status(run["status"]), text])
        full.append(detail)
    for node in to_come:
        after = f"after {', '.join(node['after'])}" if node["after"] else ""
        rows.append([output.muted(node["name"]), "-", output.muted("to come"), output.muted(after)])
    made: list[Line] = [[], [output.header("Steps:")]]
    made.extend(_trimmed(row) for row in output.columns(rows, indent=2))
    if not verbose and any(width(one_line(text.strip())) > DETAIL_WIDTH for text in full):
        made.append([output.muted("  (details are cut; --verbose shows them)")])
    return made


def _agents(job: dict[str, Any]) -> list[Line]:
    """The sessions that worked on the steps."""
    rows: list[list[Text]] = [
        [
            output.literal(short_id(agent["id"])),
            agent["name"],
            agent["step"],
            output.status(agent["status"]),
            cut(one_line(agent["detail"]), DETAIL_WIDTH),
        ]
        for agent in job.get("agents", ())
    ]
    if not rows:
        return []
    lined_up = (_trimmed(row) for row in output.columns(rows, indent=2))
    return [[], [output.header("Agents:")], *lined_up]


def _decisions(job: dict[str, Any], now: int) -> list[Line]:
    """What the job waits for, and what to type."""
    made: list[Line] = []
    for decision in job.get("decisions", ()):
        from oj_daemon.wire import answers  # noqa: PLC0415 - only for jobs that wait

        short = short_id(decision["id"])
        left = answers.deadline(decision, now)
        made.append(
            [
                "  ",
                output.literal(short),
                f"  {decision['step']}  [{decision['source']}]  {one_line(decision['summary'])}",
                output.muted(f"  ({left})" if left else ""),
            ]
        )
        made.append(
            [output.context("    to answer: "), output.literal(f"oj decision show {short}")]
        )
    return [[], [output.header("Decisions:")], *made] if made else []


def _notes(run: dict[str, Any], now: int) -> list[str]:
    notes = []
    if run["visit"] > 1:
        notes.append(f"visit {run['visit']}")
    if run["attempt"] > 1:
        notes.append(f"attempt {run['attempt']}")
    if run["status"] in ACTIVE:
        if run["retry_at_ms"]:
            notes.append(f"next try in {_left(run['retry_at_ms'], now)}")
        if run["deadline_at_ms"]:
            notes.append(f"timeout in {_left(run['deadline_at_ms'], now)}")
    return notes


def _activity(run: dict[str, Any], now: int) -> str:
    """One active run in words."""
    notes = []
    if run["status"] == "pending":
        if not run["retry_at_ms"]:
            notes.append("about to start")
    else:
        notes.append(f"{run['status']} for {step_time(run, now)}")
    notes.extend(_notes(run, now))
    return f"{run['name']} ({', '.join(notes)})"


def _to_come(job: dict[str, Any], entered: set[str]) -> list[dict[str, Any]]:
    """Steps of the way without failures that were not entered yet, in order of definition."""
    graph = {node["name"]: node for node in job["graph"]}
    below: dict[str, list[str]] = {name: list(node["on_done"]) for name, node in graph.items()}
    for name, node in graph.items():
        for above in node["after"]:
            below.setdefault(above, []).append(name)
    reached: set[str] = set()
    open_ends = list(graph)[:1]
    while open_ends:
        name = open_ends.pop()
        if name in graph and name not in reached:
            reached.add(name)
            open_ends.extend(below[name])
    return [node for name, node in graph.items() if name in reached and name not in entered]


def _graph(job: dict[str, Any], *, verbose: bool) -> list[Line]:
    """Where each step leads, unless it is one plain chain (which the list of steps shows already)."""
    nodes = job["graph"]
    is_chain = all(
        len(node["on_done"]) <= 1 and not (node["after"] or node["on_fail"] or node["on_cancel"])
        for node in nodes
    )
    if is_chain and not verbose:
        return []
    rows: list[list[Text]] = []
    for node in nodes:
        ways = []
        if node["after"]:
            ways.append(f"after {', '.join(node['after'])}")
        if node["on_done"]:
            ways.append(f"then {', '.join(node['on_done'])}")
        if node["on_fail"]:
            ways.append(f"on fail {node['on_fail']}")
        if node["on_cancel"]:
            ways.append(f"on cancel {node['on_cancel']}")
        rows.append([node["name"], "; ".join(ways) or "end"])
    return [[], [output.header("Graph:")], *output.columns(rows, indent=2)] if rows else []


def _variables(values: dict[str, str], *, verbose: bool) -> list[Line]:
    if not values:
        return []
    made: list[Line] = [[], [output.header("Variables:")]]
    is_cut = False
    for name in sorted(values, key=_scope_order):
        label = output.context(f"  {name}: ")
        value = values[name]
        if verbose and "\n" in value.rstrip("\n"):
            made.append([output.context(f"  {name}:")])
            made.extend(["    ", text] for text in value.rstrip("\n").split("\n"))
            continue
        flat = value if verbose else value.replace("\r", "\\r").replace("\n", "\\n")
        short = flat.rstrip("\n") if verbose else cut(flat, VALUE_WIDTH)
        is_cut = is_cut or (not verbose and (short != value))
        made.append([label, short])
    if is_cut:
        made.append([output.muted("  (values are cut; --verbose shows them)")])
    return made


def _scope_order(name: str) -> tuple[int, str]:
    scope = name.partition(".")[0]
    return (SCOPES.index(scope) if scope in SCOPES else len(SCOPES), name)


def _left(at_ms: int, now: int) -> str:
    return duration(max(0, at_ms - now))


def _trimmed(row: Line) -> Line:
    """The row without the empty columns at its end, which would only be spaces."""
    end = len(row)
    while end and not output.plain(row[end - 1]).strip():
        end -= 1
    kept = row[:end]
    if kept:
        last = kept[-1]
        kept[-1] = (
            last._replace(text=last.text.rstrip())
            if isinstance(last, output.Span)
            else last.rstrip()
        )
    return kept
