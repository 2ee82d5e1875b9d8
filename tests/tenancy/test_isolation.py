"""Twenty tenants, eight workers: nothing of one tenant is ever seen by another."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest

from .load import run

_ROOT = Path(__file__).parent.parent.parent

#: The promise is about 20 000 messages. That takes a while: unless this variable is
#: set, as .ci/run does, a quarter of them is sent.
_IN_FULL = "ECOTONE_FULL_LOAD"


_GREENLETS = """
from gevent import monkey

monkey.patch_all()

import sys
from pathlib import Path

import gevent
from gevent.lock import BoundedSemaphore

from tests.tenancy.load import run


def together(works):
    gevent.joinall([gevent.spawn(work) for work in works])


folder, count = Path(sys.argv[1]), int(sys.argv[2])
print(run(folder, count, together, lambda: gevent.sleep(0), BoundedSemaphore))
"""


def _dispatches() -> int:
    return 20_000 if os.environ.get(_IN_FULL) else 5_000


def _in_threads(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def _eager_switching() -> t.Iterator[None]:
    """Let threads take turns more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_switching")
def test_threads_do_not_cross(tmp_path: Path) -> None:
    """No row, object, header or log line crosses, and nothing is left behind."""
    count = run(tmp_path, _dispatches(), _in_threads)
    assert count >= _dispatches()


def test_greenlets_do_not_cross(tmp_path: Path) -> None:
    """Nor with gevent, where handlers are interleaved at every pause."""
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", _GREENLETS, str(tmp_path), str(_dispatches())],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[-1]) >= _dispatches()
