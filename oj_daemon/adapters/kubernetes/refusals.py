"""What an answer of the API server other than success means, in words and with what to do about it.

Rule: pure; any body is read, because proxies answer as well. Of a quota both numbers are told, and whether waiting can help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from oj_daemon.adapters.kubernetes import grammar
from oj_daemon.adapters.kubernetes.diagnosis import Diagnosis, Kind, as_number, as_text
from oj_daemon.errors import Rejected

Object = Mapping[str, Any]


def diagnose_error(status: int, body: object, *, retry_after: str = "") -> Diagnosis:
    """What an answer other than success means; status 0: there was no answer. The body may be anything."""
    said = body if isinstance(body, Mapping) else {}
    message = as_text(said.get("message")) or _first_line(body) or f"status {status}"
    reason = as_text(said.get("reason"))
    code = status or as_number(said.get("code"))
    pause = _pause(said, retry_after)
    found = _of_status(code, reason, message, said)
    return msgspec.structs.replace(found, retry_after_ms=pause) if pause is not None else found


_QUOTA: Final = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<requested>.*), used: (?P<used>.*), limited: (?P<limited>.*)",
    re.DOTALL,
)
_NEEDS: Final = re.compile(r"failed quota: (?P<name>[^:]+): must specify (?P<what>.*)", re.DOTALL)


_FORBIDDEN: Final = (
    (
        "violates PodSecurity",
        "the namespace does not take such a pod",
        "look for admission webhooks that add to pods what the namespace forbids",
    ),
    (
        "cannot .* resource ",
        "the daemon has no right to do this",
        "give its Role what oj needs: oj daemon manifest prints it",
    ),
    (
        "admission webhook",
        "a rule of the cluster forbids it",
        "ask whoever runs the cluster, or change container { pod }",
    ),
    (
        "",
        "the cluster forbids it",
        "correct container {} in the runbook, or ask whoever runs the cluster",
    ),
)
"""Sign in the message, our words, what to do."""


def _of_status(code: int, reason: str, message: str, body: Object) -> Diagnosis:  # noqa: PLR0911 - a table
    details = body.get("details")
    details = details if isinstance(details, Mapping) else {}
    thing = f"{as_text(details.get('kind')).removesuffix('s').lower() or 'object'} {as_text(details.get('name'))}".strip()
    match code:
        case 401:
            return _error(Kind.UNAUTHORIZED, reason, f"the API server does not know the daemon: {message}",
                          "check the credentials of the daemon's service account: oj daemon status", final=True)  # fmt: skip
        case 403:
            return _forbidden(reason, message, details)
        case 404 if details.get("kind") == "namespaces" or re.match(
            r'namespaces? ".*" not found', message
        ):
            return _error(Kind.NO_NAMESPACE, reason, f"there is no such namespace: {message}",
                          "make it, or correct OJ_K8S_NAMESPACE", final=True)  # fmt: skip
        case 404:
            return _error(Kind.NOT_FOUND, reason, f"the {thing} is not there: {message}", "", final=True)  # fmt: skip
        case 409 if reason == "AlreadyExists":
            return _error(Kind.ALREADY_EXISTS, reason, f"the {thing} exists already: {message}",
                          "if no daemon of yours has made it, delete it", final=True)  # fmt: skip
        case 409:
            return _error(Kind.CONFLICT, reason, f"somebody else wrote at the same moment: {message}", "")  # fmt: skip
        case 410:
            return _error(Kind.EXPIRED, reason, f"the API server has forgotten what was before: {message}", "")  # fmt: skip
        case 429:
            return _error(Kind.THROTTLED, reason, f"the API server asks for a pause: {message}", "")
        case 408 | 0:
            return _error(Kind.SERVER_ERROR, reason, f"the API server did not answer: {message}",
                          "nothing that runs is lost; oj asks again until it is back")  # fmt: skip
        case _ if 400 <= code < 500:
            return _error(Kind.INVALID, reason, f"the API server does not accept it: {message}",
                          "correct container {} in the runbook, or OJ_K8S_POD_TEMPLATE", final=True)  # fmt: skip
        case _:
            return _error(Kind.SERVER_ERROR, reason, f"the API server failed (status {code}): {message}",
                          "nothing that runs is lost; oj asks again until it is back")  # fmt: skip


def _error(kind: Kind, reason: str, message: str, advice: str, *, final: bool = False) -> Diagnosis:
    return Diagnosis(
        kind=kind,
        message=message,
        advice=advice,
        reason=reason,
        is_waiting=not final,
        is_final=final,
    )


def _forbidden(reason: str, message: str, details: Object) -> Diagnosis:
    exceeded, needs = _QUOTA.search(message), _NEEDS.search(message)
    if exceeded:
        return _quota(reason, exceeded)
    if needs:
        return _error(Kind.QUOTA, reason, f"the quota {needs['name']} wants to be told more: {message}",
                      f"set {needs['what'].partition(' for: ')[0]} in container {{}} of the runbook", final=True)  # fmt: skip
    causes = details.get("causes")
    is_ending = any(
        isinstance(each, Mapping) and each.get("reason") == "NamespaceTerminating"
        for each in (causes if isinstance(causes, list) else ())
    )
    if is_ending or "because it is being terminated" in message:
        return _error(Kind.NO_NAMESPACE, reason, f"the namespace is being deleted: {message}",
                      "make it again once it is gone, or set OJ_K8S_NAMESPACE", final=True)  # fmt: skip
    sentence, advice = next(words for sign, *words in _FORBIDDEN if re.search(sign, message))
    return _error(Kind.FORBIDDEN, reason, f"{sentence}: {message}", advice, final=True)


def _quota(reason: str, exceeded: re.Match[str]) -> Diagnosis:
    """Full for now, or too small for ever; with the numbers of what does not fit."""
    requested, used, limited = (_amounts(exceeded[name]) for name in ("requested", "used", "limited"))  # fmt: skip
    never = [
        name
        for name in requested
        if (asked := _number_of(requested[name])).is_finite()
        and asked > _number_of(limited.get(name))
    ]
    if never:
        shown = ", ".join(f"{name} of {requested[name]} of at most {limited[name]}" for name in never)  # fmt: skip
        return _error(
            Kind.QUOTA,
            reason,
            f"the quota {exceeded['name']} never allows as much: {shown} is requested",
            f"ask for less: container {{ {_setting(never[0])} }}, or have the quota raised",
            final=True,
        )
    shown = ", ".join(
        f"{name}: {amount} requested, {used.get(name, '?')} of {limited.get(name, '?')} used"
        for name, amount in requested.items()
    )
    return _error(
        Kind.QUOTA,
        reason,
        f"the quota {exceeded['name']} is full ({shown})",
        "wait: oj tries again when others have ended; or have the quota raised",
    )


def _setting(name: str) -> str:
    kind, _, resource = name.rpartition(".")
    return f'{kind or "requests"} = {{ "{resource}" = ... }}'


def _amounts(text: str) -> dict[str, str]:
    pairs = (each.strip().partition("=") for each in text.split(","))
    return {name: value for name, found, value in pairs if found}


def _number_of(text: str | None) -> Decimal:
    """An amount; what cannot be read is endless: nothing is too much for it, and nobody can have asked for it."""
    if text is None:
        return Decimal("Infinity")
    try:
        return grammar.quantity("quota", text)
    except Rejected:
        return Decimal("Infinity")


def _pause(body: Object, retry_after: str) -> int | None:
    """How long the server wants to be left alone; the body may say it as well as the header."""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 7:
        return 1000 * int(retry_after)
    details = body.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, Mapping) else None
    return 1000 * as_number(seconds) if seconds else None


def _first_line(body: object) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else as_text(body)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
