"""The file: complete, portable, without secrets, and never in the way."""

from __future__ import annotations

import shutil
import typing as t

from .conftest import Site

SEND = 'result = ecotone.command_bus.send_with_routing("first")'


def test_processes_that_boot_at_once_agree(site: Site) -> None:
    """Eight processes begin together: all work, and the manifest is whole."""
    site.write_handlers(*(f"module_{number}" for number in range(30)), "first")
    script = site.script(SEND)

    started = [site.start(*script) for _ in range(8)]
    finished = [process.communicate(timeout=120) for process in started]

    assert finished == [('"first"\n', "")] * 8
    assert len(site.content()["deferred"]) == 31
    assert [path.name for path in site.instance.iterdir()] == [site.manifest.name]


def test_reader_never_sees_half_of_it(site: Site) -> None:
    """While others write the manifest again and again, each read finds all of it."""
    site.write_handlers("first")
    site.boot()

    found = site.boot(
        """
        import threading
        from pathlib import Path
        from flask_ecotone.discovery.manifest import DeferredModule, Manifest
        path = Path(app.instance_path, "ecotone", "ecotone-small.json")
        many = tuple(DeferredModule(f"module_{n}", ()) for n in range(500))
        wanted = dict(version="1", application="small")
        long = Manifest(**wanted, fingerprint="", eager=(), deferred=many, order=(),
                        mixins=())
        long.write(path)
        writers = [
            threading.Thread(target=lambda: [long.write(path) for _ in range(50)])
            for _ in range(4)
        ]
        [writer.start() for writer in writers]
        seen = set()
        while any(writer.is_alive() for writer in writers):
            read = Manifest.read(path, "small", "1")
            seen.add(read is not None and read == long)
        [writer.join() for writer in writers]
        result = sorted(seen), [p.name for p in path.parent.iterdir()]
        """
    )

    assert found == [[True], ["ecotone-small.json"]]


def test_application_can_be_moved(site: Site) -> None:
    """A manifest has no path in it: an image built in one folder runs in another."""
    site.write_handlers("first")
    site.boot()
    assert str(site.folder) not in site.manifest.read_text()
    moved = site.folder.with_name(f"{site.folder.name}-moved")
    shutil.move(site.folder, moved)
    there = Site(moved)

    assert there.boot(f"{SEND}; result = [result, modules()]") == [
        "first",
        ["small.first"],
    ]
    assert sorted(path.name for path in there.instance.iterdir()) == [
        there.manifest.name
    ]
    assert not site.folder.exists()


def test_manifest_holds_no_credentials(site: Site) -> None:
    """Passwords and secrets of the configuration aren't in the file."""
    site.write_handlers("first")
    site.write(
        "__init__.py",
        """
        from flask import Flask
        from flask_sqlalchemy import SQLAlchemy
        from flask_ecotone import Ecotone
        ecotone, db = Ecotone(), SQLAlchemy()

        def create_app():
            app = Flask(__name__)
            app.config.update(
                SECRET_KEY="secret-of-cookies",
                SQLALCHEMY_DATABASE_URI="postgresql+psycopg://ada:secret-1@host/one",
                SQLALCHEMY_BINDS={"a": "mysql+pymysql://ada:secret-2@host/two"},
                ECOTONE_TENANTS={"ada": "a"},
                ECOTONE_TENANT_HEADER="secret-header",
                ECOTONE_SERVICE_NAME="secret-name",
                PASSWORD="secret-of-handlers",
            )
            db.init_app(app)
            ecotone.init_app(app)
            return app
        """,
    )
    site.boot()

    written = site.manifest.read_bytes()

    assert b"secret" not in written
    assert b"sql" not in written
    assert set(site.content()) == {
        *("format", "version", "application", "fingerprint"),
        *("eager", "deferred", "order", "mixins", "notes_keys"),
    }
    assert site.boot("state.system; result = modules()") == []


def test_directory_that_cannot_be_written_is_fine(site: Site) -> None:
    """Without a place to write to, a boot warns once and works."""
    site.write_handlers("first")
    (site.folder / "file").touch()
    directory = site.folder / "file" / "ecotone"
    code = f"{SEND}; state.compile(); state.system.endpoints"

    found, errors = site.log(code, ECOTONE_CACHE_DIR=str(directory))

    assert found == "first"
    assert errors.count("Ecotone's manifest can't be written to") == 1
    assert f"{directory}: " in errors
    assert "Each boot scans anew." in errors


def test_manifest_in_a_directory_of_its_own(site: Site) -> None:
    """A relative directory is inside of the instance folder, wherever one stands."""
    site.write_handlers("first")

    site.boot(ECOTONE_CACHE_DIR="kept/here")
    site.boot(ECOTONE_CACHE_DIR=str(site.folder / "absolute"))

    kept = site.folder / "instance" / "kept" / "here" / site.manifest.name
    assert kept.is_file()
    assert (site.folder / "absolute" / site.manifest.name).is_file()
    assert not site.manifest.exists()


def test_manifest_can_be_read_by_other_users(site: Site) -> None:
    """The user who serves needn't be the one who built."""
    site.write_handlers("first")
    site.boot()

    assert site.manifest.stat().st_mode & 0o777 == 0o644


def test_manifest_is_the_same_for_the_same_source(site: Site) -> None:
    """Two builds of one source are equal: nothing in it depends on the moment."""
    site.write_handlers("first", "second")
    written: list[t.Any] = []
    for _ in range(2):
        site.boot(PYTHONHASHSEED="random")
        written.append(site.manifest.read_bytes())
        site.manifest.unlink()

    assert written[0] == written[1]
