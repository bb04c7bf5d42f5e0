"""A ResourceQuota: how much the pods of a namespace may ask for together.

Rule: pure; refuses in the words of the real server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tests.support.kube.store import Refused

Object = dict[str, Any]
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DECIMAL: dict[str, Decimal | int] = {
    "m": Decimal("0.001"),
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}


class Quota:
    """One ResourceQuota; `used` is asked for by others besides the pods that there are."""

    def __init__(
        self, hard: Mapping[str, str], *, name: str = "q", used: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._hard = dict(hard)
        self._used = dict(used or {})

    def check(self, pod: Object, there: Iterable[Object]) -> None:
        """Refused when the pod does not fit in."""
        alive = [
            each for each in there if each["status"].get("phase") not in ("Failed", "Succeeded")
        ]
        requested, used, limited = [], [], []
        for resource, text in sorted(self._hard.items()):
            wanted, missing = _asked(pod, resource)
            if missing:
                self._refuse(pod, f"failed quota: {self.name}: must specify {resource} for: {','.join(missing)}")  # fmt: skip
            taken = sum((_asked(each, resource)[0] for each in alive), amount(self._used.get(resource, "0")))  # fmt: skip
            if taken + wanted > amount(text):
                requested.append(f"{resource}={_written(wanted, text)}")
                used.append(f"{resource}={_written(taken, text)}")
                limited.append(f"{resource}={text}")
        if limited:
            self._refuse(
                pod,
                f"exceeded quota: {self.name}, requested: {','.join(requested)}, used: {','.join(used)}, "
                f"limited: {','.join(limited)}",
            )

    def _refuse(self, pod: Object, why: str) -> None:
        name = pod["metadata"]["name"]
        details = {"kind": "pods", "name": name}
        raise Refused(403, "Forbidden", f'pods "{name}" is forbidden: {why}', details)


def amount(text: str) -> Decimal:
    """A quantity as a number."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    assert found is not None, text
    return Decimal(found[1]) * Decimal(_BINARY.get(found[2], 0) or _DECIMAL[found[2]])


def _asked(pod: Object, resource: str) -> tuple[Decimal, list[str]]:
    """What a pod asks for, and which of its containers do not say."""
    if resource in ("pods", "count/pods"):
        return Decimal(1), []
    kind, _, name = resource.rpartition(".")
    kind = kind or "requests"
    together, missing, largest = Decimal(0), [], Decimal(0)
    for group in ("initContainers", "containers"):
        for container in pod["spec"].get(group) or ():
            text = ((container.get("resources") or {}).get(kind) or {}).get(name)
            if text is None:
                missing.append(container["name"])
            elif group == "containers":
                together += amount(str(text))
            else:
                largest = max(largest, amount(str(text)))
    return max(together, largest), missing


def _written(number: Decimal, like: str) -> str:
    """A number in the unit of another quantity, or the largest that needs no fraction."""
    if like.endswith("i"):
        for unit, size in reversed(_BINARY.items()):
            if number and number % size == 0:
                return f"{int(number / size)}{unit}"
    if number == number.to_integral_value():
        return str(int(number))
    return f"{int(number * 1000)}m"
