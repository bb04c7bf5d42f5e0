"""What Kubernetes takes as a name, a label, a quantity, an image, and git as a URL and a branch.

Rule: pure. Each function raises Rejected with the value, what it is for and what to write instead, or returns what it read.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from oj_daemon.errors import Rejected
from oj_daemon.runbook import suggest

LONGEST_NAME: Final = 63
LONGEST_SUBDOMAIN: Final = 253
LONGEST_IMAGE: Final = 512
SHORTEST_TOKEN: Final = 20
"""A user's name in a URL that is as long as this is no name."""
RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUANTITY: Final = re.compile(
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<unit>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3})?"
)
_FACTORS: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** at for at, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** at for at, unit in enumerate("KMGTPE", 1)},
}
_PART: Final = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST: Final = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
_IMAGE: Final = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][-A-Za-z0-9_.]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,128})?"
)
_WEB: Final = {"https": 443, "http": 80}
"""Schemes that a user and a password are for, and their ports."""
_SCHEMES: Final = (*_WEB, "ssh", "git", "file")
_SCP: Final = re.compile(r"(?:[A-Za-z0-9_][-A-Za-z0-9_.]*@)?[A-Za-z0-9][-A-Za-z0-9.]*:[^:\\-].*")
_URL_HINT: Final = (
    "write it like https://host/path.git, ssh://git@host/path.git or git@host:path.git"
)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")
_NO_REF: Final = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(?:^|/)\.|\.(?:$|/)|\.lock(?:$|/)|/$"
)


def name(what: str, text: str) -> str:
    """A name of at most 63 characters: of a pod, a namespace, a container, a volume."""
    if len(text) > LONGEST_NAME or not _LABEL.fullmatch(text):
        raise _refused(
            f"{what} {text!r}: not a name for Kubernetes",
            f"use at most {LONGEST_NAME} lower-case letters, digits and dashes, with a letter or digit at both ends",
        )
    return text


def subdomain(what: str, text: str) -> str:
    """A name of at most 253 characters, in which dots are allowed: of a Secret, a claim, a class."""
    if len(text) > LONGEST_SUBDOMAIN or not _SUBDOMAIN.fullmatch(text):
        raise _refused(
            f"{what} {text!r}: not a name for Kubernetes",
            "use lower-case letters, digits, dashes and dots, with a letter or digit at both ends",
        )
    return text


def key(what: str, text: str) -> str:
    """The name of a label, an annotation or a resource: `name` or `domain.example/name`."""
    prefix, slash, last = text.rpartition("/")
    is_prefix = len(prefix) <= LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(prefix) is not None
    is_name = len(last) <= LONGEST_NAME and _QUALIFIED.fullmatch(last) is not None
    if not is_name or (slash and not is_prefix):
        raise _refused(
            f"{what} {text!r}: not the name of a label for Kubernetes",
            "write it like team or example.com/team",
        )
    return text


def is_label(text: str) -> bool:
    """Whether this can be the value of a label."""
    return not text or (len(text) <= LONGEST_NAME and _QUALIFIED.fullmatch(text) is not None)


def label(what: str, text: str) -> str:
    """The value of a label."""
    if not is_label(text):
        raise _refused(
            f"{what} {text!r}: not the value of a label for Kubernetes",
            f"use at most {LONGEST_NAME} letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
        )
    return text


def variable(what: str, text: str) -> str:
    """The name of an environment variable."""
    if not _VARIABLE.fullmatch(text):
        raise _refused(
            f"{what} {text!r}: not the name of a variable", "use letters, digits and underscores"
        )
    return text


def resource(what: str, text: str) -> str:
    """The name of a resource; one without a domain has to be one of Kubernetes' own."""
    key(what, text)
    if "/" not in text and text not in RESOURCES and not text.startswith("hugepages-"):
        near = suggest.nearest(text, RESOURCES)
        raise _refused(
            f"{what} {text!r}: there is no such resource",
            f"did you mean {near}?" if near else f"use {', '.join(RESOURCES)} or example.com/name",
        )
    return text


def quantity(what: str, text: str) -> Decimal:
    """An amount, as a number of cores or bytes."""
    read = _QUANTITY.fullmatch(text)
    if read is None:
        raise _refused(f"{what} {text!r}: not a quantity", "write it like 500m, 2, 512Mi or 4Gi")
    unit = read["unit"] or ""
    if unit in _FACTORS:
        return Decimal(read["number"]) * _FACTORS[unit]
    return Decimal(read["number"]).scaleb(int(unit[1:]))


def amount(what: str, of: str, text: str) -> Decimal:
    """An amount of a resource; thousandths of a byte are a mistake that Kubernetes would not see."""
    found = quantity(what, text)
    is_bytes = of in ("memory", "ephemeral-storage") or of.startswith("hugepages-")
    if is_bytes and text[-1] in "num":
        raise _refused(
            f"{what} {text!r}: thousandths of a byte",
            f"did you mean {text.rstrip('num')}Mi?",
        )
    return found


def image(what: str, text: str) -> str:
    """The name of an image."""
    if len(text) > LONGEST_IMAGE or not _IMAGE.fullmatch(text):
        raise _refused(
            f"{what} {text!r}: not the name of an image",
            "write it like registry.example.com/team/agent:1.2.3",
        )
    return text


def git_url(url: str) -> str:
    """Something that `git clone` in a pod can take, without a password in it."""
    shown = re.sub(r"://[^/]*@", "://***@", url)
    if url.startswith("-") or _UNPRINTABLE.search(url):
        raise _refused(f"clone {shown!r}: it cannot be a URL", _URL_HINT)
    scheme, rest, _ = url.partition("://")
    if not rest:
        if not _SCP.fullmatch(url):
            raise _refused(f"clone {shown!r}: not a URL that a pod can reach", _URL_HINT)
        return url
    try:
        parts = urlsplit(url)
        host, user, password = parts.hostname or "", parts.username or "", parts.password
    except ValueError:
        raise _refused(f"clone {shown!r}: it cannot be a URL", _URL_HINT) from None
    is_here = scheme == "file"
    if scheme not in _SCHEMES or host.startswith("-") or (not host and not is_here):
        raise _refused(f"clone {shown!r}: not a URL that a pod can reach", _URL_HINT)
    if user.startswith("-"):
        raise _refused(f"clone {shown!r}: it cannot be a URL", _URL_HINT)
    is_token = scheme in _WEB and len(user) >= SHORTEST_TOKEN
    if password is not None or is_token:
        raise _refused(
            f"clone {shown}: the password in this URL would be readable in the pod",
            "git remote set-url origin URL without it, and let a Secret prove who you are:"
            " OJ_K8S_GIT_SECRET, or OJ_K8S_SSH_SECRET with a deploy key",
        )
    return url


def git_server(what: str, url: str) -> str:
    """The beginning of the URLs of one git server, without anything behind its host and port."""
    scheme, _, rest = url.partition("://")
    host = rest.removesuffix("/")
    if scheme not in _WEB or not re.fullmatch(_HOST, host) or _server_of(url) is None:
        raise _refused(
            f"{what} {url!r}: not the URL of a git server",
            "write its scheme and host, and nothing else: https://git.example.com",
        )
    return f"{scheme}://{host.lower()}"


def is_at(url: str, server: str) -> bool:
    """Whether a URL that `git_url` has taken is one of this server, which `git_server` has taken."""
    return _server_of(url) is not None and _server_of(url) == _server_of(server)


def _server_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL of the web; None for every other one."""
    parts = urlsplit(url)
    try:
        port = parts.port or _WEB[parts.scheme]
    except (KeyError, ValueError):
        return None
    return parts.scheme, parts.hostname or "", port


def git_ref(what: str, text: str) -> str:
    """A branch, a tag or a commit, never an option."""
    if not text or text.startswith("-") or _NO_REF.search(text):
        raise _refused(
            f"clone: {text!r} cannot be a {what}", f"check the {what} with: git branch -a"
        )
    return text


def _refused(message: str, hint: str) -> Rejected:
    return Rejected(message, code="invalid", hint=hint)
