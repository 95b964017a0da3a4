"""What one of several workers receives from the process that forks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.app.listeners import Sockets
    from trio_gw.proxy.limiter_factory import SharedCounters
    from trio_gw.supervision.supervisor import StopPipe
    from trio_gw.workers.rpc import WorkerRpc
    from trio_gw.workers.shared_state import SharedState


class WorkerContext(NamedTuple):
    """The resources of one worker. The first worker has the `number` 1."""

    number: int
    shared_state: SharedState
    sockets: Sockets  # bound before the fork
    stop_pipe: StopPipe
    shared: SharedCounters  # limits that all workers count together
    rpc: WorkerRpc
    cache: Path  # of the control plane, if there is one
