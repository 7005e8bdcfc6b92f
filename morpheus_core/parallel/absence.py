"""Clusters whose workers are all gone: told, and not waited for longer than one likes."""

from __future__ import annotations

import logging
import time

from morpheus_core.errors import WorkerError
from morpheus_core.parallel.executors import Engine

logger = logging.getLogger("morpheus_core")

#: Seconds without workers that need no explanation: clusters replace some that have ended.
PROMPT = 10.0
#: The longest time between two explanations, in seconds.
LONGEST = 600.0


class Absence:
    """Looks whether an engine has workers, as long as pieces wait for them.

    Parameters
    ----------
    engine : Engine
        Whose workers.
    patience : float or None
        Seconds without any after which it is an error; None waits on.
    """

    def __init__(self, engine: Engine, patience: float | None) -> None:
        self._engine, self._patience = engine, patience
        self._since: float | None = None
        self._next = PROMPT

    def look(self, waiting: int) -> None:
        """Say that there are no workers, if it is so for a while.

        Raises
        ------
        WorkerError
            If it is so for too long.
        """
        if self._engine.has_workers():
            self._since, self._next = None, PROMPT
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        seconds = now - self._since
        if self._patience is not None and seconds >= self._patience:
            raise WorkerError(
                f"the cluster has had no workers for {seconds:.0f} s, and {waiting} pieces wait; "
                f"start workers and pass resume=True, or wait longer with patience="
            )
        if seconds >= self._next:
            logger.warning(
                "the cluster has no workers; %d pieces wait, for %.0f s so far", waiting, seconds
            )
            self._next = seconds + min(self._next, LONGEST)
