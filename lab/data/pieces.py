"""Long documents cut into pieces, so that one book can be split into train, validation and test."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from lab.data.corpora import Document

_SPACE = re.compile(r"\s")
# So many characters of one kind, which the tokenizer would take for one word, are none.
_LONG = 1 << 11
_ONE_KIND = re.compile(r"\s+|[^\W\d_]+|\d+|(?:[^\w\s]|_)+")


def pieces_of(document: Document, characters: int) -> Iterator[Document]:
    """A document as pieces named `<name>#<number>` from 1 on, or as it is if it is not longer.

    Args:
        document: a text.
        characters: see `cut_text`; 0 leaves every document whole. A piece of white space alone is left out.
    """
    if not characters or (not document.rest and len(document.text) <= characters):
        yield document
        return
    for number, text in enumerate(cut_text(document.parts(), characters), start=1):
        if not text.isspace():
            yield Document(f"{document.name}#{number}", text)


def cut_text(parts: Iterable[str], characters: int) -> Iterator[str]:
    """Cut a text, from its start, into pieces that joined give it back exactly.

    A piece has at least so many characters and ends at the first line break from there on; if none comes
    within as many characters again, at white space; else there. The last piece may be shorter; below a tenth
    it joins the one before.

    Args:
        parts: of a text. Not longer than `characters`, it is one piece.
        characters: > 0.
    """
    text = waiting = ""
    # Two pieces ahead, but at the end, no piece depends on what is still to come.
    for part, ahead in chain(((part, 2 * characters) for part in parts), [("", characters + 1)]):
        text += part
        start = 0
        while len(text) - start >= ahead:
            if waiting:
                yield waiting
            end = _end(text, start + characters, start + 2 * characters)
            waiting, start = text[start:end], end
        text = text[start:]
    if 10 * len(text) < characters:  # too little to be a document beside such pieces
        yield waiting + text
    else:
        yield from filter(None, (waiting, text))


def _end(text: str, least: int, most: int) -> int:
    """Where a piece ends that may end at `least` .. `most`."""
    line = text.find("\n", least - 1, most)
    if line >= 0:
        return line + 1
    space = _SPACE.search(text, least - 1, most)
    return space.end() if space else least


def cut_words(text: str) -> Iterator[str]:
    """A text for a tokenizer to be trained on, cut within runs of letters, digits, signs or white space.

    Training takes time by the square of the longest run. Those of less than 2,048 characters, as all words
    are, stay whole; those of 4,095 and more, spaces or a line of Chinese, do not.
    """
    start = 0
    for end in range(_LONG, len(text), _LONG):
        if _ONE_KIND.fullmatch(text, end - _LONG, end):
            yield text[start:end]
            start = end
    yield text[start:]
