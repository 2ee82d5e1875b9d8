"""Small scripts, each about one thing: ``python -m example_app.quickstarts.model``.

Each stands alone, prints what it does, checks what it claims, and leaves nothing
behind.
"""
