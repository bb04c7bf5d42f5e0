"""A log as a daemon uses it."""

from __future__ import annotations

import threading
from pathlib import Path

from oj_daemon.errors import StoreError
from oj_daemon.store.wal import Wal


class Daemon:
    """A log that was opened, replayed and started, with what it acknowledged and how it failed."""

    def __init__(
        self, folder: Path, *, after_seq: int = 0, recover: bool = False, epoch: int = 1
    ) -> None:
        self.wal = Wal.open(folder, epoch=epoch)
        try:
            self.replayed = list(self.wal.replay(after_seq=after_seq, recover=recover))
        except BaseException:
            self.wal.close()
            raise
        self.acknowledged: list[int] = []
        self.errors: list[StoreError] = []
        self._changed = threading.Condition()
        self.wal.start(self._durable, self._failed)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.replayed]

    def write(self, *payloads: bytes) -> bool:
        """Append all as one group and wait; whether they were acknowledged."""
        seq = 0
        for payload in payloads:
            seq = self.wal.append(payload)
        if self.wal.commit():
            self._durable(seq)
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.wal.durable >= seq or self.errors, timeout=30
            )
        return not self.errors

    def _durable(self, seq: int) -> None:
        with self._changed:
            self.acknowledged.append(seq)
            self._changed.notify_all()

    def _failed(self, error: StoreError) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()
