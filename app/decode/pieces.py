"""From the bytes of a message to its pieces: one document, several, an array of them, or one a line.

Each piece stands alone. Where one is no JSON its end is unknown; then the lines after it are tried one by one, so that
a broken line costs only itself. The work is two passes at most: no line is looked at from more than one beginning.
"""

from typing import Final

from app.decode.budget import DOCUMENTS_LIMIT, Budget, check_density
from app.decode.document import Piece, Unread, raw_of, text_of
from app.decode.undecodable import Undecodable
from app.decode.walk import walk

_LINE_ENDS_LIMIT: Final = 2 * DOCUMENTS_LIMIT
_BROKEN_LINES_LIMIT: Final = 256
_SPACE: Final = b" \t\r\n"


def pieces_of_body(body: bytes, budget: Budget) -> list[Piece]:
    """Give the pieces of a message, at least one. Raises Excessive."""
    try:
        text = text_of(body)
    except Undecodable as problem:
        return _lines(body, budget) or [Unread(problem=problem, raw=body)]
    return pieces_of_text(text, budget)


def pieces_of_text(text: str, budget: Budget) -> list[Piece]:
    """Give the pieces of a text, at least one. Raises Excessive."""
    check_density(text)
    walked = walk(text, budget)
    if walked.problem is None:
        blank = Undecodable("is not a JSON object, so it holds no S3 records")
        return walked.pieces or [Unread(problem=blank, raw=raw_of(text))]
    rest = raw_of(text[walked.at :])
    return [*walked.pieces, *(_lines(rest, budget) or [Unread(problem=walked.problem, raw=rest)])]


def trimmed(raw: bytes) -> bytes:
    """Give bytes without the white space of JSON around them."""
    return raw.strip(_SPACE)


def _lines(raw: bytes, budget: Budget) -> list[Piece]:
    """Read every line alone; gives nothing where no line is a document, for then the lines are parts of one thing."""
    if not 0 < raw.count(b"\n") <= _LINE_ENDS_LIMIT:
        return []
    pieces: list[Piece] = []
    is_delimited = False
    broken = 0
    for line in raw.split(b"\n"):
        content = trimmed(line)
        if not content:
            continue
        found, is_whole = _line(content, budget)
        pieces += found
        # An indented line that is a document is more likely a part of what was broken before it.
        is_delimited = is_delimited or (is_whole and line.startswith((b"{", b"[")))
        broken += not is_whole
        if broken > _BROKEN_LINES_LIMIT:
            return []
    return pieces if is_delimited else []


def _line(line: bytes, budget: Budget) -> tuple[list[Piece], bool]:
    try:
        text = _line_text(line)
    except Undecodable as problem:
        budget.take_document()
        return [Unread(problem=problem, raw=line)], False
    check_density(text)
    walked = walk(text, budget)
    if walked.problem is None:
        return walked.pieces, True
    return [*walked.pieces, Unread(problem=walked.problem, raw=raw_of(text[walked.at :]))], False


def _line_text(line: bytes) -> str:
    # Cheaper than to read it: most broken lines were cut off.
    if not (line.startswith((b"{", b"[")) and line.endswith((b"}", b"]"))):
        raise Undecodable("is not a whole JSON object, so it holds no S3 records")
    return text_of(line)
