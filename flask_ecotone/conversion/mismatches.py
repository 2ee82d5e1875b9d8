"""What doesn't fit a type, in words for whoever made the value."""

from __future__ import annotations

import re
import typing as t

import msgspec

from ..errors import ConversionError

_FOUND: t.Final = re.compile(r"Expected `(.+)`, got `(\w+)`(?: - at `\$\.?(.+)`)?")
#: What it says of a value that is none of several names the value itself.
_QUOTED: t.Final = re.compile(r"(Invalid (?:enum )?value) '.*'", re.DOTALL)
_WORDS: t.Final = {"null": "None", "array": "list"}


def mismatch(error: ConversionError, advice: str = "") -> str:
    """Return what is wrong with JSON that can't be read as its type.

    Values of the application aren't part of it.

    :param advice: What to do where a value is missing.
    """
    reason = error.__cause__
    if not isinstance(reason, msgspec.MsgspecError):
        return str(error)
    said = str(reason).rstrip(".")
    found = _FOUND.fullmatch(said)
    if found is None:
        return _QUOTED.sub(r"\1", said) + "."
    expected = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), found[1])
    what = f"its {found[3]!r}" if found[3] else "it"
    is_missing = found[2] == "null"
    is_ = _WORDS.get(found[2], found[2])
    if is_missing and "float" in expected:
        is_ = "None, NaN or infinite"  # JSON has one word for all of them
    return f"{what} is {is_}, not {expected}.{advice if is_missing else ''}"
