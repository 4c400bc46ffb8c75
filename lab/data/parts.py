"""Long texts a part at a time, so that memory holds a part of one and not the whole.

A part ends before a space or line break that follows something else. Words, trailing white space, and the
tokens of byte-level BPE (which looks ahead over white space alone) lie in one part each, so that what is made
of the parts is what would be made of the whole.
"""

import codecs
from collections.abc import Iterable, Iterator

PART = 1 << 18  # bytes read at once, and the size up to which a text stays whole


def in_parts(chunks: Iterable[bytes], encoding: str = "utf-8") -> Iterator[str]:
    """A text as its parts, of about the size of the chunks, longer where it has no white space.

    A text of one chunk is one part.

    Raises:
        UnicodeDecodeError: if the chunks joined are no such text.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    waiting: list[str] = []
    for chunk in chunks:
        if waiting and (place := _break(waiting[-1])):
            last = waiting.pop()
            yield "".join([*waiting, last[:place]])
            waiting = [last[place:]]
        waiting.append(decoder.decode(chunk))
    yield "".join([*waiting, decoder.decode(b"", final=True)])


def _break(text: str) -> int:
    """The last place at which a part may end, or 0."""
    place = len(text) - 1
    while place > 0 and (text[place] not in " \n" or text[place - 1].isspace()):
        place -= 1
    return max(place, 0)
