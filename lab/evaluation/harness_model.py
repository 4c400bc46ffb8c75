"""An arm as a model of lm-evaluation-harness: how likely it finds continuations and texts; what it writes.

The harness (github.com/EleutherAI/lm-evaluation-harness, 0.4.13) brings causal models alone. Here a
likelihood is the exact chain rule for causal and dense arms alike (`span_nll`), or Monte Carlo draws
(`span_draws`), and text comes from whatever sampler the arm has.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from lab.data.tokenizers import Tokenizer
from lab.evaluation.arm import Arm
from lab.evaluation.chain_rule import place_logits, span_nll
from lab.evaluation.choice import Items, OptionWindows, option_windows
from lab.evaluation.choice_draws import span_draws
from lab.evaluation.sampling import sample
from lab.evaluation.stop_conditions import StopStrings
from lab.evaluation.writing import Sampling, lay_out, require_sampling
from lab.version import digest

MAX_GEN_TOKS = 256  # where a task says no number, as the harness' own models
KNOWN = {"do_sample", "max_gen_toks", "temperature", "top_p", "until"}
_ROWS = 4096  # windows at once

_logger = logging.getLogger("lm_eval.ablation_lab")  # below the harness' own, which sets level and form


class Span(NamedTuple):
    """Ids that fit in a window together: what is given, one at least, and what is scored behind it."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Manner(NamedTuple):
    """How a task wants text written (`lab.evaluation.canvas`), and the strings that end it."""

    tokens: int
    temperature: float
    top_p: float
    until: tuple[str, ...]


class HarnessModel(LM):
    """What the harness asks of a model, answered by the lab's scorers and samplers.

    An answer depends neither on the order of requests nor on what else is asked: random numbers follow from
    the seed and the request. Of one that comes several times, as where a task has `repeats`, each time has
    numbers of its own.

    Args:
        arm: the arm.
        tokenizer: of the arm.
        draws: M Monte Carlo draws a continuation, for an arm that reads any order; 0 for the chain rule.
        sampler: as of `Sampling`, and so are the two that follow.
        passes: fewer where a text has fewer tokens.
        seed: of samples.

    Raises:
        ValueError: as `require_sampling`.
    """

    def __init__(
        self,
        arm: Arm,
        tokenizer: Tokenizer,
        draws: int = 0,
        sampler: str = "",
        passes: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._arm, self._scorer, self._tokenizer = arm, arm.scorer, tokenizer
        self._length = arm.config.data.length
        self._draws = draws if arm.config.sees_both_sides else 0
        self._sampler = require_sampling(arm, Sampling(sampler, passes))
        self._passes, self._seed = passes, seed
        self._counts: dict[str, int] = {}

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """How likely each continuation is behind its context, and whether greedy sampling would write it.

        Both are encoded apart, white space at a context's end going to the continuation. An empty context is
        the end of the document before. A context is cut from the left where a window has no room for it; a
        continuation that has none itself is scored as `text_spans` of it, from the context's last token on.

        Args:
            requests: of (context, continuation) each.
            disable_tqdm: whether to show no progress.

        Returns:
            Of each the sum over its tokens, nats, by draws an estimate of a bound; and, always exactly,
            whether each token is the most likely one after all before it, of equals the first.
        """
        pairs = [request.args for request in requests]
        contexts = [context.rstrip() for context, _ in pairs]
        behind = [context[len(own) :] + text for own, (context, text) in zip(contexts, pairs, strict=True)]
        spans, cut = [], 0
        for context, ids in zip(self._encode(contexts), self._encode(behind), strict=True):
            given = context or (self._tokenizer.end_id,)
            spans.append(fit(given, ids, self._length))
            cut += len(given) + len(ids) > self._length
        self._say("contexts that were cut", cut, len(pairs))
        scores = self._scores(spans, self._draws, disable_tqdm)
        return [
            (float(sum(scores[span][0] for span in own)), all(scores[span][1] for span in own))
            for own in spans
        ]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """How likely each text is by the chain rule, as a document: in windows (`text_spans`), none left out.

        Args:
            requests: of (text,) each.
            disable_tqdm: whether to show no progress.

        Returns:
            Of each the sum over its tokens, nats.
        """
        texts = self._encode([request.args[0] for request in requests])
        spans = [text_spans(ids, self._tokenizer.end_id, self._length) for ids in texts]
        scores = self._scores(spans, 0, disable_tqdm, greedy=False)
        return [float(sum(scores[span][0] for span in own)) for own in spans]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text behind each context, up to the first of its strings or the end of a document.

        A window holds both: a text has as many tokens at most as it has room for behind the context, or
        behind half a window of it, and a context that is longer is cut from the left. Both are counted.

        Args:
            requests: of (context, options) each; the options are those of `manner_of`.
            disable_tqdm: whether to show no progress.

        Raises:
            ValueError: as `manner_of`, `Canvas` and `denoise`.
        """
        asked = [(request.args[0], manner_of(request.args[1])) for request in requests]
        prompts = [ids or (self._tokenizer.end_id,) for ids in self._encode([text for text, _ in asked])]
        groups, times, cut, short = defaultdict(list), Counter[tuple[str, Manner]](), 0, 0
        for number, (one, prompt) in enumerate(zip(asked, prompts, strict=True)):
            context, manner = one
            tokens = min(manner.tokens, lay_out(len(prompt), None, self._length, self._sampler).pieces[0])
            seen = prompt[max(0, len(prompt) + tokens - self._length) :]
            cut, short = cut + (len(seen) < len(prompt)), short + (tokens < manner.tokens)
            row = int(digest([context, times[one]]), 16) % 2**31
            times[one] += 1
            groups[manner._replace(tokens=tokens)].append((seen, row, number))
        self._say("contexts that were cut", cut, len(asked))
        self._say("texts with room for fewer tokens than asked for", short, len(asked))
        texts = [""] * len(asked)
        for manner, rows in tqdm(sorted(groups.items()), desc="writing", disable=disable_tqdm):
            for (*_, number), text in zip(sorted(rows), self._write(manner, sorted(rows)), strict=True):
                texts[number] = text
        return texts

    def get_model_info(self) -> dict[str, Any]:
        """What the harness keeps beside its results."""
        return {
            "arm": self._arm.config.arm,
            "stop": self._arm.stop.model_dump(),
            "window": self._length,
            "draws": self._draws,
            "sampler": self._sampler,
            "passes": self._passes,
            "sampling_seed": self._seed,
            **self._counts,
        }

    def _encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return [tuple(ids.tolist()) for ids in self._tokenizer.encode_batch(texts)]

    def _scores(
        self, spans: Sequence[Sequence[Span]], draws: int, disable_tqdm: bool, greedy: bool = True
    ) -> dict[Span, tuple[float, bool]]:
        """The log-likelihood of each span, each computed once, and whether greedy sampling writes it."""
        unique = sorted({span for own in spans for span in own})
        found: dict[Span, tuple[float, bool]] = {}
        for first in tqdm(range(0, len(unique), _ROWS), desc="scoring", disable=disable_tqdm):
            some = unique[first : first + _ROWS]
            contexts, texts = ([np.array(ids, np.int32) for ids in side] for side in zip(*some, strict=True))
            windows = option_windows(Items(contexts, [[text] for text in texts]), self._length)
            if draws:  # those behind one context have the same draws, so that they cancel in a choice
                ids = np.array([int(digest(span.context), 16) % 2**31 for span in some], np.int32)
                nll = span_draws(self._scorer, windows, ids, draws)[0] * (windows.stops - windows.starts)
            else:
                nll = np.array([own.sum() for own in span_nll(self._scorer, *windows)])
            said = is_greedy(self._scorer, windows) if greedy else np.zeros(len(some), bool)
            found |= zip(some, zip((-nll).tolist(), said.tolist(), strict=True), strict=True)
        return found

    def _write(self, manner: Manner, rows: Sequence[tuple[tuple[int, ...], int, int]]) -> list[str]:
        """What is written behind prompts, (ids, the row's id, ...) each."""
        prompts = [np.array(ids, np.int32) for ids, *_ in rows]
        ends = StopStrings(self._tokenizer, manner.until)
        written = sample(
            self._scorer,
            prompts,
            manner.tokens,
            self._sampler,
            min(self._passes or manner.tokens, manner.tokens),
            self._seed,
            stop=ends,
            row_ids=np.array([row for _, row, _ in rows], np.int32),
            temperature=manner.temperature,
            top_p=manner.top_p,
        )
        return [ends.text(row[len(prompt) :], prompt) for row, prompt in zip(written, prompts, strict=True)]

    def _say(self, what: str, count: int, of: int) -> None:
        self._counts[what] = self._counts.get(what, 0) + count
        if count:
            arm = self._arm.config.arm
            _logger.warning("%s, in %s's window of %d tokens: %d of %d", what, arm, self._length, count, of)


def fit(context: tuple[int, ...], continuation: tuple[int, ...], length: int) -> list[Span]:
    """The span of a window of `length` tokens with as much of the context's end as it has room for.

    Args:
        context: ids, one at least, of which one at least is kept.
        continuation: ids. Where they and one more do not fit they are several spans (`text_spans`).
        length: L >= 2.
    """
    if 0 < len(continuation) < length:
        return [Span(context[-(length - len(continuation)) :], continuation)]
    return text_spans(continuation, context[-1], length)


def text_spans(tokens: tuple[int, ...], before: int, length: int) -> list[Span]:
    """A text as the harness cuts it: each token is scored once, behind one token or more.

    The first window has the token `before`, each that follows the last token of the one before, and the last
    window as many tokens of context as it has room for.

    Args:
        tokens: ids.
        before: the id that stands before them.
        length: L >= 2, tokens of a window.
    """
    windows = get_rolling_token_windows(list(tokens), before, length - 1, context_len=1)
    return [Span(tuple(context), tuple(scored)) for context, scored in map(make_disjoint_window, windows)]


def is_greedy(scorer: Any, spans: OptionWindows) -> np.ndarray:
    """Whether each token of a span is the most likely one after all before it, of equals the first.

    A row takes a pass for each token up to the first that is not, for most rows one or two.

    Returns:
        (rows,) bool.
    """
    windows, starts, stops = spans
    said = np.ones(len(windows), bool)
    for offset in range(int((stops - starts).max())):
        rows = np.flatnonzero(said & (starts + offset < stops))
        if not len(rows):
            break
        places = starts[rows] + offset
        passes = place_logits(scorer, windows[rows], places[:, None])
        likely = np.concatenate([logits.argmax(axis=1) for _, logits in passes])
        said[rows] = likely == windows[rows, places]
    return said


def manner_of(options: Mapping[str, Any]) -> Manner:
    """How a task wants text written; greedily, if it says nothing.

    Args:
        options: its `generation_kwargs`: `until`, `max_gen_toks` or what the harness takes for it,
            `do_sample`, `temperature` and `top_p`.

    Raises:
        ValueError: if there are others.
    """
    known = normalize_gen_kwargs(dict(options), MAX_GEN_TOKS)
    if unknown := sorted(known.keys() - KNOWN):
        raise ValueError(f"`generation_kwargs` must be of {sorted(KNOWN)}, but got {unknown} too.")
    temperature = known.get("temperature", 1.0 if known["do_sample"] else 0.0)
    until = tuple(string for string in known["until"] if string)
    return Manner(known["max_gen_toks"], float(temperature), float(known.get("top_p", 1.0)), until)
