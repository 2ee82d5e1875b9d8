"""Runs the benchmarks that are named, or all of them."""

from __future__ import annotations

import argparse

from . import boot
from . import compile
from . import dispatch
from . import latency
from . import memory
from . import model_command
from . import relay
from . import sending
from . import tenancy
from . import worker
from . import worker_apart
from . import worker_boot
from . import worker_foreign
from . import worker_poison

_BENCHMARKS = {
    "dispatch": dispatch,
    "memory": memory,
    "model_command": model_command,
    "tenancy": tenancy,
    "compile": compile,
    "boot": boot,
    "sending": sending,
    "relay": relay,
    "latency": latency,
    "worker": worker,
    "worker_foreign": worker_foreign,
    "worker_poison": worker_poison,
    "worker_apart": worker_apart,
    "worker_boot": worker_boot,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    listed = ", ".join(_BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {listed}")
    names = parser.parse_args().names
    for name in names:
        if name not in _BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are {listed}")
    for name in names or _BENCHMARKS:
        _BENCHMARKS[name].main()


if __name__ == "__main__":
    main()
