"""Serve both shops on two fresh SQLite files: ``python -m example_app.demo``.

A worker runs beside the server, in a process of its own, and stops with it.

``PORT`` chooses the port (a free one is taken when it is in use);
``HEDGEROW_DATABASE_URL`` and ``RIVERSIDE_DATABASE_URL`` choose databases to keep. Stop
with Ctrl-C.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from flask import Flask
from werkzeug.serving import make_server

from . import create_app
from .extensions import NOTIFICATIONS
from .shops.seed import set_up
from .shops.shop import databases
from .shops.shop import SHOPS

#: What ends the demo: Ctrl-C, a supervisor, or a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def prepare(binds: dict[str, str], **config: object) -> Flask:
    """Build the application and make sure that there is something to sell."""
    app = create_app(
        {
            **config,
            "SECRET_KEY": os.environ.get("FLASK_SECRET_KEY") or secrets.token_hex(),
            "SQLALCHEMY_BINDS": binds,
        }
    )
    with app.app_context():
        for shop in SHOPS:
            set_up(shop)
    return app


def listen(port: int) -> socket.socket:
    """Open *port* on this machine, or any free port when it is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def serve(app: Flask, port: int) -> None:
    """Serve *app* until it is told to stop."""
    with listen(port) as listener:
        host, port = listener.getsockname()
        server = make_server(host, port, app, threaded=True, fd=listener.fileno())
    with server:
        address = f"http://{host}:{port}"
        print(f"Both shops are open: {address} (stop with Ctrl-C)")
        for shop in SHOPS.values():
            print(f"  {shop.name}: {address}/{shop.key}/", flush=True)
        server.serve_forever()


@contextmanager
def worker(binds: dict[str, str], health_file: Path) -> Iterator[None]:
    """Run a worker of the mails on the same databases, as one would at the terminal."""
    arguments = ["ecotone", "run", NOTIFICATIONS, "--poll-interval", "0.2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "example_app"]
        + [*arguments, "--health-file", str(health_file)],
        cwd=Path(__file__).parents[1],
        env={
            **os.environ,
            **{f"{key.upper()}_DATABASE_URL": url for key, url in binds.items()},
        },
        # Ctrl-C reaches the server alone, which then stops the worker: asked twice, a
        # worker would give back the message at hand instead of finishing it.
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop(*_: object) -> NoReturn:
    """Leave at the first signal; a second one on the way out changes nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def main() -> None:
    """Run the demo."""
    for number in SIGNALS:
        signal.signal(number, stop)
    port = int(os.environ.get("PORT", "5000"))
    with TemporaryDirectory(prefix="example-shops-") as folder:
        binds = databases(Path(folder))
        health_file = Path(folder) / "worker.alive"
        app = prepare(binds, WORKER_HEALTH_FILE=str(health_file))
        with worker(binds, health_file):
            serve(app, port)


if __name__ == "__main__":
    main()
