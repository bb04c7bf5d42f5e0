"""What a service account of the test cluster may do: the rules of the Roles that are bound to it, and nothing else.

Rule: pure. Only Roles of one namespace count, as nothing of ours needs more.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.support.kube.store import ROLE_BINDINGS, ROLES, Key, Object, Resource, Store

_PREFIX = "serviceaccount"


class Account(NamedTuple):
    """A service account."""

    namespace: str
    name: str

    def token(self, secret: str) -> str:
        """What its pods prove themselves with."""
        return f"{_PREFIX}:{self.namespace}:{self.name}:{secret}"


def account_of(authorization: str, secret: str) -> Account | None:
    """Whose token this is."""
    kind, *parts = authorization.removeprefix("Bearer ").split(":")
    if kind != _PREFIX or len(parts) != 3 or parts[2] != secret:
        return None
    return Account(parts[0], parts[1])


def may(store: Store, who: Account, verb: str, key: Key, part: str) -> bool:
    """Whether one of its Roles allows this."""
    wanted = f"{key.resource.plural}/{part}" if part else key.resource.plural
    roles = {
        binding["roleRef"]["name"]
        for binding in _all(store, Key(ROLE_BINDINGS, key.namespace))
        if any(
            (each["kind"], each.get("namespace", key.namespace), each["name"])
            == ("ServiceAccount", who.namespace, who.name)
            for each in binding["subjects"]
        )
    }
    return any(
        key.resource.group in rule["apiGroups"]
        and wanted in rule["resources"]
        and verb in rule["verbs"]
        for role in _all(store, Key(ROLES, key.namespace))
        if role["metadata"]["name"] in roles
        for rule in role["rules"]
    )


def review(store: Store, asked: Object) -> Object:
    """The answer to somebody who asks what an account may do."""
    wanted = asked["spec"]["resourceAttributes"]
    *_, namespace, name = asked["spec"]["user"].split(":")
    resource = Resource(wanted.get("group", ""), "v1", wanted["resource"])
    key = Key(resource, wanted["namespace"], wanted.get("name", ""))
    is_allowed = may(
        store, Account(namespace, name), wanted["verb"], key, wanted.get("subresource", "")
    )
    return {**asked, "status": {"allowed": is_allowed}}


def _all(store: Store, key: Key) -> list[Object]:
    found: list[Object] = store.list(key, {})["items"] if key.namespace else []
    return found
