"""Long documents cut into pieces, so that one book can be split into train, validation and test."""

import re

from lab.data.corpora import Document

_SPACE = re.compile(r"\s")


def pieces_of(document: Document, characters: int) -> list[Document]:
    """A document as pieces named `<name>#<number>` from 1 on, or as it is if it is not cut.

    Args:
        document: a text.
        characters: see `cut_text`; 0 leaves every document whole. A piece of white space alone is left out.
    """
    texts = cut_text(document.text, characters) if characters else [document.text]
    if len(texts) == 1:
        return [document]
    return [
        Document(f"{document.name}#{number}", text)
        for number, text in enumerate(texts, start=1)
        if text.strip()
    ]


def cut_text(text: str, characters: int) -> list[str]:
    """Cut a text, from its start, into pieces that joined give it back exactly.

    A piece has at least so many characters and ends at the first line break from there on; if none comes
    within as many characters again, at white space; else there. The last piece may be shorter; below a tenth
    it joins the one before.

    Args:
        text: not longer than `characters`, it is one piece.
        characters: > 0.
    """
    pieces: list[str] = []
    start = 0
    while len(text) - start > characters:
        end = _end(text, start + characters, start + 2 * characters)
        pieces.append(text[start:end])
        start = end
    rest = text[start:]
    if pieces and 10 * len(rest) < characters:  # too little to be a document beside such pieces
        pieces[-1] += rest
    else:
        pieces.append(rest)
    return pieces


def _end(text: str, least: int, most: int) -> int:
    """Where a piece ends that may end at `least` .. `most`."""
    line = text.find("\n", least - 1, most)
    if line >= 0:
        return line + 1
    space = _SPACE.search(text, least - 1, most)
    return space.end() if space else least
