"""Blocks that several definitions share: retry, container, notify, and transitions to steps.

Rule: reads one value at a time and knows nothing of the definition around it but the words for messages.
"""

from __future__ import annotations

from oj_daemon.runbook.fold import Body, Context, Scope, body_of, string
from oj_daemon.runbook.model import Container, Notify, Retry
from oj_daemon.runbook.suggest import did_you_mean
from oj_daemon.runbook.tree import Node, Object, kind_of

POINTS = ("on_start", "on_done", "on_fail", "on_cancel")


def read_retry(ctx: Context, body: Body, pause: str, *, least: int) -> Retry:
    """`retry = { attempts, <pause> }`."""
    node = body.value("retry")
    inner = None if node is None else body_of(ctx, node, f"`retry` of {body.where}")
    if inner is None:
        return Retry()
    if least and not any(entry.key == "attempts" for entry in inner.entries):
        inner.missing("attempts")
    attempts = inner.integer("attempts", least, least, hint="it counts the tries after the first")
    backoff = inner.duration(pause)
    inner.finish({"backoff" if pause == "cooldown" else "cooldown": f"did you mean `{pause}`?"})
    return Retry(attempts=attempts, backoff_ms=backoff or 0)


def read_notify(body: Body, scope: Scope) -> Notify:
    """`notify { on_start on_done on_fail on_cancel }`."""
    node = body.value("notify")
    inner = None if node is None else body_of(body.ctx, node, f"{body.where}.notify")
    if inner is None:
        return Notify()
    texts = {point: inner.plain(point, scope) for point in POINTS}
    inner.finish()
    return Notify(**texts)


def read_container(body: Body) -> Container | None:
    """`container = "image"` or `container { image cpu memory requests limits pod }`."""
    node = body.value("container")
    if node is None:
        return None
    ctx = body.ctx
    if isinstance(node.value, str):
        image = str(ctx.filled(node).value)
        if not image.strip():
            ctx.error(node, f"`container` of {body.where} is empty", 'write container = "image"')
        return Container(image=image)
    inner = body_of(ctx, node, f"`container` of {body.where}")
    if inner is None:
        return None
    image_node = inner.string("image", required=True)
    cpu, memory = inner.string("cpu"), inner.string("memory")
    requests, limits = inner.plain_map("requests"), inner.plain_map("limits")
    pod = inner.value("pod")
    template: dict[str, object] = {}
    if pod is not None and isinstance(pod.value, Object):
        template = _data_of(ctx, pod.value)
    elif pod is not None:
        ctx.error(pod, f"`pod` of {inner.where} must be an object, not {kind_of(pod)}")
    inner.finish()
    if image_node is None:
        return None
    if not str(image_node.value).strip():
        ctx.error(image_node, f"`image` of {inner.where} is empty")
    return Container(
        image=str(image_node.value),
        cpu=None if cpu is None else str(cpu.value),
        memory=None if memory is None else str(memory.value),
        requests=requests,
        limits=limits,
        pod=template,
    )


def _data_of(ctx: Context, body: Object) -> dict[str, object]:
    """An object as plain data."""
    found: dict[str, object] = {}
    for entry in body.entries:
        for label in entry.labels:
            ctx.error(label, f"unexpected label after `{entry.key}`")
        if entry.key in found:
            ctx.error(entry, f"`{entry.key}` is set twice")
        found[entry.key] = _data(ctx, entry.value)
    return found


def _data(ctx: Context, node: Node) -> object:
    """A value as plain data."""
    if isinstance(node.value, list):
        return [_data(ctx, item) for item in node.value]
    if isinstance(node.value, Object):
        return _data_of(ctx, node.value)
    return ctx.filled(node).value


Targets = list[tuple[str, Node]]


def read_targets(body: Body, key: str, *, many: bool) -> Targets:
    """The steps that a transition names, each with the value that names it."""
    node = body.value(key)
    if node is None:
        return []
    ctx, what = body.ctx, f"`{key}` of {body.where}"
    right = f'write {key} = {{ step = "name" }}'
    if isinstance(node.value, str):
        ctx.error(
            node,
            f"{what} must be an object, not a string",
            f'write {key} = {{ step = "{node.value}" }}',
        )
        return []
    found: Targets
    if isinstance(node.value, Object):
        found = _target(ctx, node, node.value, what, many=many)
    elif isinstance(node.value, list) and many:
        found = []
        for item in node.value:
            if isinstance(item.value, Object):
                found += _target(ctx, item, item.value, what, many=False)
            elif (text := string(ctx, item, f"an item of {what}")) is not None:
                found.append((str(text.value), text))
        if not node.value:
            ctx.error(node, f"{what} names no step", right)
    elif isinstance(node.value, list):
        ctx.error(
            node, f"{what} leads to one step only", f"{right}; only on_done may start several"
        )
        found = []
    else:
        ctx.error(node, f"{what} must be an object, not {kind_of(node)}", right)
        found = []
    seen: set[str] = set()
    for name, at in found:
        if name in seen:
            ctx.error(at, f"{what} names step `{name}` twice")
        seen.add(name)
    return found


def _target(ctx: Context, at: Node, value: Object, what: str, *, many: bool) -> Targets:
    inner = Body(ctx, at, value, what)
    step = inner.value("step")
    advice = "a transition takes only `step`; retry = { attempts = N } belongs to the step"
    inner.finish(
        {"attempts": advice, "retry": advice, "job": "a transition leads to a step of the same job"}
    )
    if step is None:
        inner.missing("step")
        return []
    if isinstance(step.value, list):
        if not many:
            ctx.error(step, f"{what} leads to one step only here", 'write { step = "name" }')
            return []
        if not step.value:
            ctx.error(step, f"{what} names no step")
        texts = [string(ctx, item, f"a step in {what}") for item in step.value]
        return [(str(text.value), text) for text in texts if text is not None]
    text = string(ctx, step, f"`step` in {what}")
    return [] if text is None else [(str(text.value), text)]


def check_target(ctx: Context, name: str, at: Node, steps: list[str], where: str) -> bool:
    """Whether a transition's target is a step of the job."""
    if name in steps:
        return True
    ctx.error(
        at,
        f"{where} references unknown step `{name}`",
        did_you_mean(name, steps, "steps of this job"),
    )
    return False
