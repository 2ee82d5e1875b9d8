"""Serve both shops on two fresh SQLite files: ``python -m example_app.demo``.

``PORT`` chooses the port (a free one is taken when it is in use);
``HEDGEROW_DATABASE_URL`` and ``RIVERSIDE_DATABASE_URL`` choose databases to keep. Stop
with Ctrl-C.
"""

import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from flask import Flask
from werkzeug.serving import make_server

from . import create_app
from .shops.seed import set_up
from .shops.shop import databases
from .shops.shop import SHOPS


def prepare(binds: dict[str, str]) -> Flask:
    """Build the application and make sure that there is something to sell."""
    app = create_app(
        {
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
    """Serve *app* until it is told to stop.

    This is also the place to start a worker beside the server, once the first
    handler is asynchronous: ``flask --app example_app ecotone run <channel>``.
    """
    with listen(port) as listener:
        host, port = listener.getsockname()
        server = make_server(host, port, app, threaded=True, fd=listener.fileno())
    with server:
        address = f"http://{host}:{port}"
        print(f"Both shops are open: {address} (stop with Ctrl-C)")
        for shop in SHOPS.values():
            print(f"  {shop.name}: {address}/{shop.key}/", flush=True)
        server.serve_forever()


def stop(*_: object) -> NoReturn:
    """Leave at the first signal; a second one on the way out changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def main() -> None:
    """Run the demo."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    port = int(os.environ.get("PORT", "5000"))
    with TemporaryDirectory(prefix="example-shops-") as folder:
        serve(prepare(databases(Path(folder))), port)


if __name__ == "__main__":
    main()
