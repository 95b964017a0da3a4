"""A program for tests of the supervisor: its children do what the command line says.

    python -m support.supervised COUNT ACTION [SETTLED [TIMEOUT]]

With a TIMEOUT a watchdog kills children that have not responded for so many seconds.

Every line it writes tells one event, written whole by whichever process it concerns.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from trio_gw.supervision import supervisor
from trio_gw.supervision.shared_memory import Counters, Slot
from trio_gw.supervision.supervisor import StopPipe, Supervisor
from trio_gw.supervision.watchdog import Watchdog
from trio_gw.telemetry import logs


def tell(*words: object) -> None:
    """Write one line at once; several processes share the pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def obey(index: int, stop_pipe: StopPipe) -> int:
    """Wait for orders to stop, until there are no more to come."""
    if action == "early":
        os.kill(os.getpid(), signal.SIGHUP)
    # A signal that comes between the last bytecode and `read` would not end the wait: its handler
    # in Python runs after. This descriptor becomes readable whenever it comes.
    woken, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGHUP, lambda signum, frame: tell("hup", index))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
    tell("child", index, os.getpid())
    while True:
        ready, _, _ = select.select((stop_pipe.descriptor, woken), (), ())
        if woken in ready:
            os.read(woken, 100)
        if stop_pipe.descriptor not in ready:
            continue
        order = os.read(stop_pipe.descriptor, 1)
        if not order:
            break
        tell("order", index, order.decode())
        if action != "linger":
            return 0
    tell("alone", index)
    return 0


def beat(index: int, stop_pipe: StopPipe) -> int:
    """Show ten times a second that it responds, until told to stop; SIGUSR1 makes it hang."""
    signal.signal(signal.SIGUSR1, lambda signum, frame: stuck())
    tell("child", index, os.getpid())
    beats = counters.column(index)
    while not select.select((stop_pipe.descriptor,), (), (), 0.1)[0]:
        beats[Slot.BEATS] += 1
        tell("beat", index, beats[Slot.BEATS])
    return 0


def stuck() -> None:
    """Compute for ever."""
    while True:
        pass


def fail(index: int, stop_pipe: StopPipe) -> int:
    """Be of no use: the second child cannot start."""
    return obey(index, stop_pipe) if index == 0 else 3


def crash(index: int, stop_pipe: StopPipe) -> int:
    """Show a bug."""
    raise RuntimeError(index, stop_pipe)


def ignore(index: int, _stop_pipe: StopPipe) -> int:
    """Hang."""
    tell("child", index, os.getpid())
    while True:
        time.sleep(3600)


action = sys.argv[2] if len(sys.argv) > 2 else ""

if __name__ == "__main__":
    if len(sys.argv) > 3:
        supervisor.SETTLED = float(sys.argv[3])
    logs.configure(name="supervisor")
    watchdog = None
    if len(sys.argv) > 4:
        counters = Counters(int(sys.argv[1]))
        watchdog = Watchdog(counters, float(sys.argv[4]), missed=1, interval=0.2)
    children = {
        "obey": obey,
        "beat": beat,
        "linger": obey,
        "early": obey,
        "fail": fail,
        "crash": crash,
        "ignore": ignore,
    }
    code = Supervisor(
        int(sys.argv[1]),
        children[action],
        on_exit=lambda index: tell("ended", index),
        on_stop=lambda: tell("stopping"),
        on_reload=lambda: tell("reload"),
        kill_timeout=0.5 if action == "ignore" else 30,
        watchdog=watchdog,
    ).supervise()
    tell("exit", code, len(os.listdir("/proc/self/fd")))
    sys.exit(code)
