"""``flask ecotone cache clear`` removes manifests, and nothing else."""

from __future__ import annotations

import pytest

from .conftest import Site

CLEARED = (0, "Ecotone cache cleared.\n")


def test_clear_removes_manifests(site: Site) -> None:
    """Manifests of production and of other environments go, and the empty folder."""
    site.write_handlers("first")
    site.boot()
    site.boot(ECOTONE_ENVIRONMENT="dev", ECOTONE_CACHE_CONFIGURATION="true")
    assert len(list(site.instance.rglob("*.json"))) == 2

    assert site.flask("ecotone", "cache", "clear") == CLEARED

    assert not site.instance.exists()
    assert site.instance.parent.exists()


def test_clear_without_a_directory(site: Site) -> None:
    """There needn't be anything to clear; nothing is made for it."""
    assert site.flask("ecotone", "cache", "clear") == CLEARED
    assert site.flask("ecotone", "cache", "clear") == CLEARED
    assert not (site.folder / "instance").exists()


def test_clear_touches_nothing_else(site: Site) -> None:
    """Other files stay, also if they look like ours and stand beside them."""
    site.write_handlers("first")
    site.boot()
    half = site.instance / ".ecotone-half-written"
    half.touch()
    others = [
        site.instance.parent / "shop.sqlite",
        site.instance / "manifest.json",
        site.instance / "notes.txt",
        site.instance / "assets" / "ecotone-assets.json",
        site.instance / "0123456789abcdef" / "notes.txt",
    ]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")

    assert site.flask("ecotone", "cache", "clear") == CLEARED

    files = [p for p in (site.folder / "instance").rglob("*") if p.is_file()]
    assert sorted(files) == sorted(others)


@pytest.mark.parametrize(
    "broken",
    ["stale", "handlers", "configuration"],
)
def test_clear_works_in_a_broken_application(broken: str, site: Site) -> None:
    """It doesn't scan, compile or read the rest of the configuration."""
    site.write_handlers("first")
    site.boot()
    environment = {}
    if broken == "stale":
        (site.folder / "small" / "first.py").unlink()
    elif broken == "handlers":
        site.write("first.py", "import nowhere")
    else:
        environment["ECOTONE_HANDLER_COMMIT"] = "never"

    assert site.flask("ecotone", "cache", "clear", **environment) == CLEARED
    assert not site.instance.exists()


def test_clear_follows_the_configured_directory(site: Site) -> None:
    """It clears where the application keeps its manifest."""
    site.write_handlers("first")
    elsewhere = site.folder / "elsewhere"
    kept = {"ECOTONE_CACHE_DIR": str(elsewhere)}
    site.boot()
    site.boot(**kept)

    assert site.flask("ecotone", "cache", "clear", **kept) == CLEARED

    assert not elsewhere.exists()
    assert site.manifest.exists()


def test_clear_that_cannot_remove_says_so(site: Site) -> None:
    """What can't be removed is one line and exit code 1."""
    site.manifest.mkdir(parents=True)

    code, output = site.flask("ecotone", "cache", "clear")

    assert code == 1
    assert output.startswith(f"Error: Ecotone's manifest in {str(site.instance)!r}")
    assert len(output.splitlines()) == 1
