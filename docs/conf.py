from pallets_sphinx_themes import get_version
from pallets_sphinx_themes import ProjectLink
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

# Project --------------------------------------------------------------

project = "Flask-Ecotone"
copyright = "2026 Flask-Ecotone authors"
author = "Flask-Ecotone authors"
release, version = get_version("Flask-Ecotone")

# General --------------------------------------------------------------

extensions = [
    "pallets_sphinx_themes",
    "sphinx.ext.autodoc",
    "sphinx.ext.extlinks",
    "sphinxcontrib.log_cabinet",
]
default_role = "code"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
extlinks = {
    # :ecotone:`modelling/command-handling` is the page of that path.
    "ecotone": ("https://docs.ecotone.tech/%s", "Ecotone: %s"),
}

# HTML -----------------------------------------------------------------

html_theme = "flask"
html_context = {
    "project_links": [
        ProjectLink("Ecotone", "https://docs.ecotone.tech"),
        ProjectLink("Flask", "https://flask.palletsprojects.com"),
        ProjectLink("Flask-SQLAlchemy", "https://flask-sqlalchemy.palletsprojects.com"),
    ]
}
html_sidebars = {
    "index": ["project.html", "localtoc.html", "searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}
html_title = f"{project} Documentation ({version})"
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    # Overloads tell type checkers that parentheses are optional. A reader is told once,
    # and sees the options instead.
    for room in ("endpoints", "gateways", "handlers", "interceptors", "modelling"):
        analyzer = ModuleAnalyzer.for_module(f"flask_ecotone.decorators.{room}")
        analyzer.analyze()
        analyzer.overloads.clear()
