"""An application that is forked after it has used its databases."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..processes import APPS
from ..processes import PATIENCE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_has_connections_of_its_own(database_url: str) -> None:
    """All of them send and handle messages at the same time, and so does the parent."""
    done = subprocess.run(
        [sys.executable, "forking.py", database_url],
        cwd=APPS,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "[0, 0, 0] True\n", done.stderr
