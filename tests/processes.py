"""Applications of ``tests/apps`` in this process, with workers in others."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
import types
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path

import pytest

APPS: t.Final = Path(__file__).parent / "apps"
#: Seconds to wait for another process, at most.
PATIENCE: t.Final = 120.0
_tick = threading.Event()


def until(condition: Callable[[], t.Any], patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    pause = 0.005
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        _tick.wait(pause)
        # To ask takes a connection and processor time, which others need as well.
        pause = min(pause * 1.3, 0.1)


def load_app(name: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Return a module of ``tests/apps``, made anew from the environment."""
    spec = importlib.util.spec_from_file_location(name, APPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def end(workers: Iterable[subprocess.Popen[str]]) -> None:
    """End the workers that still run."""
    for worker in workers:
        worker.kill()
        worker.wait()
        if worker.stderr is not None:
            worker.stderr.close()
