"""Gateways as forks of one process that has imported everything: a restart takes a moment.

Run by `support.crashes`. For each line of standard input, the name of a log file and variables
for the environment as JSON, it starts `trio-gw run` in a process group of its own and prints its
pid; and its exit code, once it and all that it has started are gone.
"""

from __future__ import annotations

import json
import os
import sys

from trio_gw import __main__ as command


def serve() -> None:
    """Start one gateway after the other."""
    command.parser()  # imports every command, and so everything
    for line in sys.stdin:
        log, variables = json.loads(line)
        gone, held = os.pipe()
        if (pid := os.fork()) == 0:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.environ.update(variables)
            os._exit(command.main(["run"]))
        print(pid, flush=True)
        os.close(held)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.read(gone, 1)  # nothing comes: it ends when nobody holds the other end
        os.close(gone)
        print(code, flush=True)


if __name__ == "__main__":
    serve()
