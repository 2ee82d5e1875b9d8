"""What doesn't fit a type, in words for whoever made the value."""

from __future__ import annotations

import re
import typing as t

import msgspec

_FOUND: t.Final = re.compile(r"Expected `(.+)`, got `(\w+)`(?: - at `\$\.?(.+)`)?")
#: What it says of a value that is none of several names the value itself.
_QUOTED: t.Final = re.compile(r"(Invalid (?:enum )?value) '.*'", re.DOTALL)
_WORDS: t.Final = {"null": "None", "array": "list"}


def mismatch(error: BaseException) -> str:
    """Return what is wrong with a value that isn't read as it was written.

    Values of the application aren't part of it.
    """
    reason = error.__cause__ or error
    said = str(reason).rstrip(".")
    if not isinstance(reason, msgspec.ValidationError):
        return f"{said}."
    found = _FOUND.fullmatch(said)
    if found is None:
        return _QUOTED.sub(r"\1", said) + "."
    expected = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), found[1])
    what = f"its {found[3]!r}" if found[3] else "it"
    if found[2] != "null":
        return f"{what} is {_WORDS.get(found[2], found[2])}, not {expected}."
    # JSON has no other word for what is no number.
    nothing = "None, NaN or infinite" if "float" in expected else "None"
    return (
        f"{what} is {nothing}, not {expected}. If the database gives it, flush the"
        " session before, as in db.session.flush(). If there may be none, annotate it"
        " with '| None'."
    )
