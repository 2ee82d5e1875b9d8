"""``flask`` with gevent in place of threads."""

from gevent import monkey

monkey.patch_all()

from flask.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
