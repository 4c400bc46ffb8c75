"""What `generate` writes and shows: text alone where nobody looks, each pass on a terminal."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from lab.arms import arm_values
from lab.config import make_config
from lab.data.characters import safe_text
from lab.data.tokenizers import ByteTokenizer, train_bpe
from lab.evaluation.writing import Sampling
from lab.scheduling import writing
from lab.scheduling.writing import Order, Written, draft_text, parse_gap, printable, texts, write_here

TINY = {
    "data": {"length": 16},
    "model": {"size": "0.1m", "layers": 1, "width": 8, "heads": 2, "ffn_width": 16},
    "training": {"total_steps": 1},
    "evaluation": {"choice_context_tokens": 8, "choice_option_tokens": 4},
}
BPE = train_bpe("bpe:275", ["größer 漢字 🙂🙂🙂 é\n" * 9])


@pytest.fixture
def written(monkeypatch):
    """`written(arm, order, ...)`: the texts, notes and what the console was given."""
    made = {}

    def arm_of(name, tokenizer, *layers):
        from lab.evaluation.arm import Arm, make_scorer
        from lab.training.build import build_transformer

        config = make_config(TINY, arm_values(name), *layers)
        if (key := (name, tokenizer.name, str(layers))) not in made:
            transformer = build_transformer(config, tokenizer.vocab_size)
            made[key] = Arm(config, make_scorer(transformer, config), None)
        return made[key]

    def written(name, order, *layers, tokenizer=BPE, console=None, stop="best"):
        arm, asked, notes = arm_of(name, tokenizer, *layers), [], []
        result = SimpleNamespace(config=arm.config, reference=lambda stop: f"reference to {stop}")
        monkeypatch.setattr(writing, "finished_result", lambda run: result)
        monkeypatch.setattr(writing, "find_stop", lambda result, which: which)
        monkeypatch.setattr(writing, "tokenizer_of", lambda *_: tokenizer)
        monkeypatch.setattr(writing, "load_arm", lambda *given: asked.append(given) or arm)
        console = console or Console(file=io.StringIO())
        found = write_here(Path("run"), stop, order, Path("cache"), console, notes.append)
        assert asked == [(Path("run"), f"reference to {stop}", tokenizer.vocab_size, arm.config)]
        return found, notes, console.file.getvalue()

    return written


def on_terminal(encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    file.getvalue = lambda: (file.flush(), file.buffer.getvalue().decode(encoding))[1]
    return Console(file=file, force_terminal=True, width=60, height=20)


def test_without_a_terminal_nothing_is_shown_and_the_seed_decides(written):
    order = Order("größer", tokens=9, sampling=Sampling(samples=2, seed=5))
    for name in ("ar", "dlm"):
        found, notes, shown = written(name, order)
        assert (notes, shown) == ([], "")
        assert [one.before for one in found] == ["größer"] * 2
        assert found == written(name, order, stop="last")[0]
        other = Order("größer", tokens=9, sampling=Sampling(samples=2, seed=6))
        assert {one.text for one in found}.isdisjoint(one.text for one in written(name, other)[0])


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_shows_every_pass_with_what_is_masked(written, encoding, monkeypatch):
    byte, drafts = ByteTokenizer(), []
    seen = lambda tokenizer, draft, mask: drafts.append((draft, mask)) or draft_text(tokenizer, draft, mask)  # noqa: E731
    monkeypatch.setattr(writing, "draft_text", seen)
    order = Order("ab", tokens=8, sampling=Sampling("blocks:1", passes=4))
    found, _, shown = written("dlm", order, tokenizer=byte, console=on_terminal(encoding))
    assert [(draft == byte.vocab_size).sum() for draft, _ in drafts] == [6, 4, 2, 0]
    assert {mask for _, mask in drafts} == {"▒" if encoding == "utf-8" else "_"}
    frames = [printable(safe_text(draft_text(byte, *draft)), encoding) for draft in drafts]
    places = [shown.index(f"ab\x1b[0m{frame}") for frame in frames]  # what was given is dim
    assert places == sorted(set(places))
    drafts.clear()
    assert written("dlm", order, tokenizer=byte)[0] == found
    assert drafts == []


def test_a_prompt_and_a_text_that_do_not_fit_are_spoken_of(written):
    long = "0123456789" * 3
    found, notes, _ = written("dlm", Order(long, tokens=4), tokenizer=ByteTokenizer())
    assert notes == ["the prompt has 30 tokens, of which dlm sees the last 12 in its window of 16"]
    assert found[0].before == long
    _, notes, _ = written("ar", Order("ab", tokens=40), tokenizer=ByteTokenizer())
    assert notes == [
        "40 tokens go beyond the window of 16: 8 are written at a time, behind the last tokens that there "
        "is room for"
    ]
    with pytest.raises(ValueError, match=r"`tokens` must be <= 14, .* but got tokens=40: sampler=ancestral"):
        written("dlm", Order("ab", tokens=40), tokenizer=ByteTokenizer())


@pytest.mark.parametrize("name", ["any_order_ar", "dlm"])
def test_what_sees_both_sides_fills_the_gap(written, name):
    order = Order("ab", "cd", tokens=5, sampling=Sampling(samples=3))
    found, notes, _ = written(name, order, tokenizer=ByteTokenizer())
    assert notes == []
    assert {(one.before, one.after) for one in found} == {("ab", "cd")}
    assert len({one.text for one in found}) == 3
    _, notes, _ = written(name, Order("a" * 20, "b" * 20, tokens=4), tokenizer=ByteTokenizer())
    sees = f"of which {name} sees the 6 and 6 next to the gap in its window of 16"
    assert notes == [f"the sides have 20 and 20 tokens, {sees}"]
    with pytest.raises(ValueError, match=f"`candidates` must not be given for {name}, which sees both sides"):
        written(name, Order("ab", "cd", tokens=5, candidates=2), tokenizer=ByteTokenizer())


@pytest.mark.parametrize(
    ("name", "layers"), [("ar", ()), ("suffix_denoiser", ()), ("dlm", ({"factors": {"block": 4}},))]
)
def test_what_sees_the_left_side_alone_says_that_it_chooses(written, name, layers):
    order = Order("ab", "cd", tokens=5, candidates=3)
    found, (note,), _ = written(name, order, *layers, tokenizer=ByteTokenizer())
    assert note.startswith(
        f"{name} sees the left side alone: of 3 continuations of it, the one with the lowest"
    )
    assert (found[0].before, found[0].after) == ("ab", "cd")
    (note,) = written(name, Order("ab", "cd", tokens=5), *layers, tokenizer=ByteTokenizer())[1]
    assert "of 16 continuations" in note


def test_a_text_ends_before_its_stop_string(written):
    sampling = Sampling(samples=8)
    plain = written("ar", Order("ab", tokens=14, sampling=sampling))[0]
    letter = next(character for character in plain[0].text if character.isascii())
    ended = written("ar", Order("ab", tokens=14, stops=[letter], sampling=sampling))[0]
    assert [one.text for one in ended] == [whole.text.split(letter)[0] for whole in plain]
    assert {letter in whole.text for whole in plain} == {True, False}
    with pytest.raises(ValueError, match=r"`stop` must not be given with a gap, whose length is `tokens`"):
        written("dlm", Order("ab", "cd", tokens=5, stops=["x"]))
    with pytest.raises(ValueError, match=r"`candidates` are for a gap, but got candidates=3 and none\."):
        written("ar", Order("ab", candidates=3))


def test_a_prompt_that_is_no_text_is_refused(written):
    with pytest.raises(ValueError, match=r"a prompt must be Unicode text, but got 'a\\udcff' \(surrogates"):
        written("ar", Order("a\udcff"))


@pytest.mark.parametrize(
    "text", ["a b", "a [MASK] b [MASK] c", "[MASK] b", "a [MASK]", "[MASK]", "a [mask] b"]
)
def test_a_gap_has_text_on_both_sides(text):
    with pytest.raises(
        ValueError, match=r"`infill` must have one \[MASK\], with text on both sides, but got"
    ):
        parse_gap(text)
    assert parse_gap("a [MASK] b") == ("a ", " b")


def test_a_draft_shows_what_is_hidden_and_characters_that_are_not_whole():
    byte = ByteTokenizer()
    ids = [*byte.encode("a漢"), byte.vocab_size, *byte.encode("字b")[1:], byte.vocab_size, byte.vocab_size]
    assert draft_text(byte, np.array(ids), "▒") == "a漢▒▒▒b▒▒"
    for end in range(1, 4):
        assert draft_text(byte, byte.encode("🙂")[:end], "_") == "_"
    assert draft_text(BPE, np.array([*BPE.encode("größer"), BPE.vocab_size]), "_") == "größer_"


def test_a_terminal_is_not_controlled_and_gets_what_it_can_show():
    shown = texts([Written("a\x1b[31m", "b\r\x07漢\n\tc", "d"), Written("e", "f", "")], "ascii")
    assert shown.plain == "a?[31mb???\n\tcd\n---\nef"
    assert printable("a漢", "utf-8") == "a漢"
    assert Written("a", "b", "c").whole() == "abc"
