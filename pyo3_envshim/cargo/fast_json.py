"""JSON without the imports of `json`.

Those (``re`` and ``enum``) take half as long as Python itself takes to start, in each call that
compiles. The scanner in C, which `json` uses too (``json/scanner.py``), needs neither.
"""

from __future__ import annotations

try:
    from _json import make_scanner
except ImportError:  # PyPy
    make_scanner = None  # type: ignore[assignment,misc]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Defaults:
    """What the scanner asks for: `json.loads`' defaults (``array_hook`` came with 3.15)."""

    strict = True
    object_hook = object_pairs_hook = array_hook = parse_constant = None
    parse_float = float
    parse_int = int


def loads(text: str) -> Any:
    """Return what *text* says, as `json.loads` does. Raises ValueError if it is not JSON."""
    try:
        found, end = make_scanner(_Defaults)(text, 0)  # type: ignore[arg-type]
        if not text[end:].strip():
            return found
    except Exception:  # json knows what is wrong with the text
        pass
    import json

    return json.loads(text)
