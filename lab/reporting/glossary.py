"""The words that pages use, explained for a reader who has not read the paper."""

# Section's name for a word -> the word, and what it means. The first group is on every page.
TERMS: dict[str, tuple[str, str]] = {
    "arms": (
        "AR, DLM",
        "The autoregressive model reads left to right and predicts the next token. The masked diffusion "
        "language model has some tokens hidden, at random, and predicts them from all the others.",
    ),
    "tokens": (
        "Token, unique tokens, epoch",
        "A token is the unit of text, here one byte or a piece of a word. Unique tokens are how much "
        "different text there is to train on: the budget. An epoch is one pass over it, so tokens seen = "
        "epochs × unique tokens.",
    ),
    "nll": (
        "NLL, bits/byte",
        "Negative log-likelihood: the mean surprise at held-out text, in nats per token; lower is better. "
        "Bits/byte is the same per byte of text, whatever the tokenizer.",
    ),
    "nelbo": ("NELBO", "An upper bound on the NLL, estimated from random masks."),
    "choice": (
        "Choice accuracy, option gap",
        "How often the model finds the true continuation more likely than others taken from elsewhere, and "
        "by how many nats per token on average it finds the others more surprising.",
    ),
    "flops": ("FLOPs", "Floating-point operations: the amount of arithmetic, counted by a formula."),
    "seed": ("Seed", "One repeat of a run with other random numbers. What varies over seeds is chance."),
    "stop": (
        "Stop, annealed stop, best stop",
        "A stop is a point at which the model is measured as if training ended there; annealed, if the "
        "learning rate was lowered just before. The best stop has the lowest validation NLL of its run; if "
        "that is its last stop, the model was still improving.",
    ),
    "gain": (
        "Gain",
        "By how much an arm is better than the arm it is compared with; negative if it is worse.",
    ),
    "end": ("At the end", "The last stop of the run, whether or not the model had begun to overfit before."),
    "interval": (
        "95 % interval",
        "From Student's t over the seeds, for what the difference is on average. It is not corrected for "
        "the number of comparisons. Two seeds make it 12.7 standard errors wide to each side, three 4.3.",
    ),
    "holm": (
        "p",
        "Of the paired t test that the difference is 0, corrected (Holm) for the number of comparisons that "
        "are tested together. Below 0.05 it decides.",
    ),
    "held-out error": (
        "Window error, item error",
        "The standard error from the number of held-out examples; more seeds do not shrink it. It adds the "
        "arms' errors as if each had examples of its own, which is too large, and treats examples of one "
        "document as independent, which is too small.",
    ),
    "provisional": (
        "Provisional",
        "All seeds agree on the winner by more than they differ from one another, but the corrected test "
        "does not reject a difference of 0.",
    ),
    "crossing": (
        "Passes",
        "Where an arm's validation curve first becomes better than the best that the other reaches in its "
        "whole run, or than what the other has at the same number of tokens seen; interpolated between "
        "stops in the logarithm of tokens. The other's best is the lowest of several, so chance makes it a "
        "little too good.",
    ),
    "onset": (
        "Overfits",
        "The best stop of a run that went on beyond it: from there on more training hurts.",
    ),
    "match": (
        "Matches",
        "The multiple of the other arm's inference FLOPs from which on an arm is as good, there and at "
        "every larger amount measured; interpolated in the logarithm of FLOPs. “Not for good”: only at less "
        "compute.",
    ),
    "factors": (
        "Order, compute, draws",
        "The three ways in which a DLM differs from AR. Order: text is predicted left to right, or in any "
        "order. Compute: causal, each token from those before it, or dense, hidden tokens from all others. "
        "Draws: each text is always hidden the same way, or in a fresh way at each visit.",
    ),
    "corner": ("Corner", "One of the eight models that have each factor either as AR or as the DLM has it."),
    "shapley": (
        "Shapley value",
        "A factor's share of the gain: its effect averaged over the orders in which the factors can be "
        "switched on. It averages over corners that nobody would build: where interactions are large, read "
        "the corners.",
    ),
    "effects": (
        "Main effect, interaction",
        "A main effect compares the four corners with a factor to the four without it. An interaction of "
        "two is half the difference that one makes to the effect of the other; of three, half the "
        "difference that the third makes to that. A Shapley value is the main effect plus a third of the "
        "three-way interaction.",
    ),
    "bootstrap": (
        "Bootstrap interval",
        "It learns the spread from the residuals of all eight corners and is mostly narrower. In "
        "simulations of three seeds it covered 94 to 98 %, the t interval 94 to 97 %; where seeds move a "
        "factor's effect, the bootstrap of that main effect covered 70 %. Verdicts rest on the t interval.",
    ),
    "trial": (
        "Trial, censored",
        "A trial is one run of the tuning. It is censored if it was stopped early, as it was behind: what "
        "it would have reached is not known.",
    ),
    "judge": (
        "Judge NLL, distinct, repetition",
        "The mean surprise of independent AR models at generated text, in nats per token: how likely the "
        "text is, not how true or varied; so it is read beside the share of distinct runs of 4 tokens over "
        "all texts (Li et al. 2016) and the share of runs within a text that it has had before (Welleck et "
        "al. 2019).",
    ),
    "sampler": (
        "Pass, sampler",
        "In a pass the network reads the text and predicts all masked tokens; some of them are filled in. "
        "Ancestral: which ones is random. Confidence: those that it is surest of. Blocks: left to right by "
        "blocks.",
    ),
}
ALWAYS = ("arms", "tokens", "nll", "nelbo", "choice", "flops", "seed", "stop")
