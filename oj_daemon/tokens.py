"""Tokens as text: made for steps and agents, recognised again, and told whose they are.

Rule: the only place that knows what a token looks like. One of a step, gate, local or agent is nothing but a signature of the
daemon's own key over what it was made for, and is good as long as the state says that this is at work: nothing has to be
stored, revoked or cleared away, and a restart changes nothing. One of a person is compared by the hash in its record.

    ojs_<mark of the key>_<job id>_<run number, agent id or `locals`>_<signature>
    oj_<id of its record>_<secret>
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from pathlib import Path
from typing import Final

from oj_daemon import access
from oj_daemon.access import LOCALS, Principal
from oj_daemon.core.state import State
from oj_daemon.settings import STEP_TOKEN, Secret
from oj_daemon.store import files
from oj_daemon.wire.names import PREFIXES, AgentId, JobId, TokenId, short_id

logger = logging.getLogger(__name__)

PERSON_TOKEN: Final = "oj_"  # noqa: S105 - what one begins with
SECRET_BYTES: Final = 32
KEY_BYTES: Final = 32
MARK_LENGTH: Final = 8
"""Characters by which a daemon knows tokens of its own key; those of another daemon are not its business."""
KEY_NAME: Final = "token.key"


class Tokens:
    """Makes tokens and knows whose they are, for one state folder."""

    def __init__(self, key: bytes, full: Secret[str]) -> None:
        self._key = Secret(key)
        self._mark = hashlib.sha256(key).hexdigest()[:MARK_LENGTH]
        # A token that was made for somebody else is none that opens everything, wherever the setting came from.
        made = full.reveal().startswith((STEP_TOKEN, PERSON_TOKEN + PREFIXES["token"]))
        self._full = Secret("") if made else full

    @classmethod
    def open(cls, state_dir: Path, full: Secret[str]) -> Tokens:
        """Those of the key in the state folder, which is made when there is none; raises StoreError."""
        path = state_dir / KEY_NAME
        try:
            key = path.read_bytes() if path.exists() else b""
            if len(key) != KEY_BYTES:
                if key or path.exists():
                    logger.warning("%s was damaged: steps and agents that run lose access", path)
                key = secrets.token_bytes(KEY_BYTES)
                files.make_folder(state_dir)
                files.replace_file(path, key, durable=True)
        except OSError as exc:
            raise files.store_error(exc, "read or make", path) from exc
        return cls(key, full)

    def key_for(self, purpose: str) -> Secret[bytes]:
        """Another key that follows from ours, for that purpose alone."""
        return Secret(
            hmac.new(self._key.reveal(), _bytes(f"key:{purpose}"), hashlib.sha256).digest()
        )

    # Made

    def of_run(self, job_id: JobId, run: int) -> Secret[str]:
        """For a run of a shell step."""
        return self._signed(job_id, str(run))

    def of_agent(self, job_id: JobId, agent_id: AgentId) -> Secret[str]:
        """For an agent, and for its gates."""
        return self._signed(job_id, agent_id)

    def of_locals(self, job_id: JobId) -> Secret[str]:
        """For the commands in a job's locals."""
        return self._signed(job_id, LOCALS)

    def _signed(self, job_id: JobId, subject: str) -> Secret[str]:
        text = f"{STEP_TOKEN}{self._mark}_{job_id}_{subject}"
        return Secret(f"{text}_{self._signature(text)}")

    def _signature(self, text: str) -> str:
        return hmac.new(self._key.reveal(), _bytes(text), hashlib.sha256).hexdigest()

    # Recognised

    def is_ours(self, state: State, text: str) -> bool:
        """Whether the text is, or pretends to be, a token that this daemon made."""
        token_id = text.removeprefix(PERSON_TOKEN).partition("_")[0]
        is_person = text.startswith(PERSON_TOKEN) and token_id in state.tokens
        return is_person or text.startswith(f"{STEP_TOKEN}{self._mark}_")

    def principal(self, state: State, text: str, now: int) -> Principal | None:
        """Whose token this is; None for one that opens nothing (any more)."""
        if self._full and hmac.compare_digest(_bytes(text), _bytes(self._full.reveal())):
            return access.FULL_TOKEN
        found = _of_person(state, text)
        if text.startswith(STEP_TOKEN):
            found = self._of_work(state, text)
        return None if found is None or access.ended(state, found, now) else found

    def _of_work(self, state: State, text: str) -> Principal | None:
        signed, _, signature = text.rpartition("_")
        if not hmac.compare_digest(_bytes(signature), _bytes(self._signature(signed))):
            return None
        _, _, job_id, subject = signed.split("_")  # as we have made it
        job = state.jobs.get(JobId(job_id))
        if job is None:
            return None
        agent = state.agents.get(AgentId(subject))
        run = job.run_of(int(subject)) if subject.isdecimal() else None
        if agent is not None:
            what = f"agent {agent.name} ({short_id(agent.id)})"
        else:
            what = f"step {run.step}" if run is not None else subject
        return Principal(
            name=f"{what} of job {short_id(job.id)}",
            project=job.project,
            verbs=access.OF_JOBS,
            job_id=job.id,
            subject=subject,
        )


def new_secret() -> Secret[str]:
    """The part of a person's token that nobody can guess."""
    return Secret(secrets.token_hex(SECRET_BYTES))


def hash_of(secret: str) -> str:
    """What is written down of it: it is random and long, so a plain hash gives nothing away."""
    return hashlib.sha256(_bytes(secret)).hexdigest()


def for_person(token_id: str, secret: Secret[str]) -> str:
    """The whole token."""
    return f"{PERSON_TOKEN}{token_id}_{secret.reveal()}"


def _of_person(state: State, text: str) -> Principal | None:
    token_id, _, secret = text.removeprefix(PERSON_TOKEN).partition("_")
    token = state.tokens.get(TokenId(token_id))
    # An unknown id takes as long as a known one.
    known = token.hash if token is not None else hash_of("")
    if not hmac.compare_digest(hash_of(secret), known) or token is None:
        return None
    if not text.startswith(PERSON_TOKEN):
        return None
    return Principal(
        name=f"token {token.name or short_id(token.id)}",
        project=token.project,
        verbs=frozenset(token.verbs),
        token_id=token.id,
        expires_at=token.expires_at,
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
