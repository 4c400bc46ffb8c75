import numpy as np
import pytest

from lab.data.tokenizers import ByteTokenizer, train_bpe
from lab.evaluation.task_files import Question, Questions
from lab.evaluation.task_windows import fit_questions, require_fit

BYTES = ByteTokenizer()
SHORT = Question("", ("a", "b"), 0)


def asked(*questions, before=""):
    return Questions(questions, {question.subject: before for question in questions}, "digest")


def texts(fitted, tokenizer=BYTES):
    """Each context with each of its options, apart."""
    return [
        (tokenizer.decode(context), [tokenizer.decode(option) for option in options])
        for context, options in zip(fitted.contexts, fitted.options, strict=True)
    ]


def test_what_stands_before_a_question_is_part_of_its_context():
    question = Question("Who?", ("I", "you"), 1, " ")
    fitted = fit_questions(asked(question, question, before="Q A\n\n"), BYTES, 64)
    assert texts(fitted) == [("Q A\n\nWho?", [" I", " you"])] * 2
    assert (fitted.questions, fitted.cut, fitted.left_out) == ((question, question), 0, 0)
    assert {ids.dtype for ids in (*fitted.contexts, *fitted.options[0])} == {np.dtype(np.int32)}


def test_white_space_at_the_end_of_a_context_goes_to_the_options():
    fitted = fit_questions(asked(Question("x = \n", ("1", "2"), 0), SHORT), BYTES, 64)
    assert texts(fitted)[0] == ("x =", [" \n1", " \n2"])


def test_an_empty_context_is_the_end_of_the_document_before():
    fitted = fit_questions(asked(SHORT, SHORT), BYTES, 64)
    assert [context.tolist() for context in fitted.contexts] == [[256], [256]]


def test_contexts_are_cut_from_the_left_alike_for_all_options_and_counted():
    questions = [
        Question("0123456789", options, 0) for options in (("a", "b"), ("a", "bcd"), ("a" * 12, "b"))
    ]
    for length, contexts, cut, left_out in (
        (13, ["0123456789", "0123456789", "9"], 1, 0),
        (12, ["0123456789", "123456789", ""], 2, 0),
        (11, ["0123456789", "23456789"], 1, 1),
        (8, ["3456789", "56789"], 2, 1),
    ):
        fitted = fit_questions(asked(*questions), BYTES, length)
        assert [context for context, _ in texts(fitted)] == contexts
        assert (fitted.cut, fitted.left_out) == (cut, left_out)
        assert len(fitted.questions) + left_out == 3
        assert (
            max(len(c) + max(map(len, o)) for c, o in zip(fitted.contexts, fitted.options, strict=True))
            <= length
        )


@pytest.mark.parametrize("check", [fit_questions, require_fit])
def test_fewer_than_two_questions_are_refused(check):
    long = Question("c", ("a" * 9, "b"), 0)
    message = (
        r"2 questions or more .* fit in data\.length=8 tokens, but 1 of 3 have; those .* shortest take 1\."
    )
    with pytest.raises(ValueError, match=message):
        check(asked(SHORT, long, long), BYTES, 8)
    check(asked(SHORT, long, long), BYTES, 9)


def test_an_option_without_tokens_is_refused():
    class Deaf(ByteTokenizer):
        def encode_batch(self, texts):
            return super().encode_batch([text.replace("b", "") for text in texts])

    with pytest.raises(ValueError, match=r"each option must have tokens, but 'b' has none\."):
        fit_questions(asked(SHORT, SHORT), Deaf(), 8)


@pytest.fixture(scope="module")
def bpe():
    return train_bpe("bpe:280", ["unhappy and happy, the cat sat on the mat; unhappy cats sat. " * 4])


def harness(tokenizer, context, option):
    """How lm-evaluation-harness splits: the whole is encoded, and cut where the context alone would end."""
    return tokenizer.encode(context + option)[len(tokenizer.encode(context)) :]


def test_an_option_after_a_space_has_the_tokens_of_the_whole(bpe):
    question = Question("the cat sat on the", ("mat", "happy cats"), 0, " ")
    fitted = fit_questions(asked(question, SHORT), bpe, 64)
    for option, ids in zip(question.options, fitted.options[0], strict=True):
        np.testing.assert_array_equal(ids, harness(bpe, question.context, f" {option}"))
        whole = bpe.encode(f"{question.context} {option}")
        np.testing.assert_array_equal(np.concatenate([fitted.contexts[0], ids]), whole)
    assert len(fitted.options[0][0]) == 1  # " mat" is a token, and "mat" behind a space is not


def test_an_option_within_a_word_keeps_all_its_characters(bpe):
    """Where a token spans the border, the split of the whole would score a part of the option, or nothing."""
    question = Question("unha", ("ppy", "t"), 0)
    assert len(bpe.encode("unhappy")) == 1
    assert bpe.decode(harness(bpe, "unha", "ppy")) != "ppy"
    fitted = fit_questions(asked(question, SHORT), bpe, 64)
    assert texts(fitted, bpe)[0] == ("unha", ["ppy", "t"])
