"""The model card: what a model is, what it was trained on, how good it is, and how to load it."""

from lab.config import FactorsConfig
from lab.metrics import METRICS, NLL
from lab.results import RunResult, Stop
from lab.training.exchange.description import Description

CORPORA = {
    "packages": "the source of Keras and KerasHub",
    "stdlib": "the standard library of Python",
    "functions": "small Python functions, made by rule",
    "text": "text files of the one who trained it",
}
_ORDERS = {"left_to_right": "left to right", "any": "in random orders"}
LOAD = """## Load it

```python
import lab

model = lab.load_model("path/to/this/folder")
print(model.nll("some text"))  # nats of each token, exact, left to right
print(model.logits(ids))  # of (rows, n) token ids, what one pass predicts of each
```
"""
LICENSE = """## License

Not stated: what the weights may be used for depends on the license of the text that they were trained on.
Whoever passes them on says it here.
"""


def run_card(description: Description, result: RunResult, stop: Stop, which: str) -> str:
    """The card of a finished run's stop.

    Args:
        description: of the exported model.
        result: of the run.
        stop: whose weights they are.
        which: `best` or `last`.
    """
    data, config = result.data, result.config
    annealed = "annealed" if stop.reading == "annealed" else "along the run"
    packages = ", ".join(f"{name} {version}" for name, version in data.packages.items())
    corpus = CORPORA[data.corpus] + (f" ({packages})" if packages else "")
    facts = {
        "arm": f"`{description.arm}`: {arm_in_words(description.factors)}",
        "parameters": f"{result.parameters:,}",
        "corpus": f"{corpus}; hash of its training split {data.hash}",
        "unique tokens": f"{data.unique_tokens:,} of {data.train_tokens:,} ({data.tokenizer})",
        "tokens seen": f"{stop.tokens_seen:,} ({stop.epoch:.1f} epochs)",
        "stop": f"the {which} one ({annealed}), after {stop.step:,} updates",
        "seed": str(config.seed),
        "run": result.run,
        **_quality(result, stop),
        **_network(description),
    }
    return _card(f"{description.arm}, seed {config.seed}", facts)


def imported_card(description: Description, parameters: int) -> str:
    """The card of a checkpoint of another program."""
    facts = {
        "made from": ", ".join(f"{name} {value}" for name, value in description.origin.items()),
        "read as": f"`{description.arm}`: {arm_in_words(description.factors)}",
        "parameters": f"{parameters:,}",
        **_network(description),
    }
    return _card(f"{description.origin['checkpoint']}, imported", facts)


def arm_in_words(factors: FactorsConfig) -> str:
    """What a model was trained to do, in a clause."""
    order = _ORDERS.get(factors.order, f"in orders {factors.order}")
    if factors.compute == "causal":
        words = [f"predicts each token from those before it, {order}"]
        if factors.input_noise != "none":
            words.append(f"on inputs altered by {factors.input_noise}")
    elif factors.in_blocks:
        words = [f"denoises blocks of {factors.block} tokens one after the other, within a block {order}"]
    else:
        hidden = "random subsets" if factors.order == "any" else "the end of a window"
        words = [f"predicts hidden tokens from all others in one dense pass; hidden are {hidden}"]
    if factors.drawn:
        words.append("new draws at each visit" if factors.draws == "inf" else f"{factors.draws} draws a text")
    if factors.ar_share:
        words.append(f"{factors.ar_share:.0%} of the rows trained left to right in causal passes")
    return "; ".join(words)


def _quality(result: RunResult, stop: Stop) -> dict[str, str]:
    """Its exact NLL, and beside it what counting the same unique tokens gives on the same windows."""
    metric = METRICS[NLL]
    ngram = next((one.values.get("test", {}) for one in result.baselines if one.name == "n-gram"), {})
    values = {
        "test NLL": stop.test.get(NLL),
        "test NLL of an n-gram on the same tokens": ngram.get(NLL),
    }
    return {
        name: f"{value:.{metric.decimals}f} {metric.unit}" if value is not None else "not measured"
        for name, value in values.items()
    }


def _network(description: Description) -> dict[str, str]:
    a = description.architecture
    ids = f"vocabulary {a.vocab_size}, end of a document {description.end_id}, mask {a.mask_id}"
    return {
        "network": f"{a.layers} layers, width {a.width}, {a.heads} heads, {a.feed_forward}",
        "window": f"{a.length} tokens",
        "ids": f"{ids}, start of a causal stream {a.start_id}",
        "tokenizer": description.tokenizer or "none came with it",
    }


def _card(title: str, facts: dict[str, str]) -> str:
    rows = "\n".join(f"| {name} | {value.replace('|', '/')} |" for name, value in facts.items())
    table = f"| | |\n| --- | --- |\n{rows}"
    return f"# {title}\n\nA language model of the ablation lab.\n\n{table}\n\n{LOAD}\n{LICENSE}"
