"""Makes workers that die at a given statement: ``python -m tests.worker.mortals``.

Each number that it reads is one worker, forked from an application that is ready. It
writes how the worker ended.
"""

from __future__ import annotations

import os
import sys
import typing as t

from .press import Press


def main(url: str, transaction: str) -> None:
    """Read numbers, and write what became of their workers."""
    press = Press(url, t.cast(t.Any, transaction))
    press.sabotage.is_deadly = True
    press.engine.dispose()
    for line in sys.stdin:
        at = int(line)
        child = os.fork()
        if not child:
            with press.sabotage.striking({at}.__contains__):
                press.work_once()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
