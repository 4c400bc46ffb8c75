"""Named shapes of the Transformer, from a tenth of a million parameters to the paper's.

`paper_1b` and `paper_coder_1_7b` are the shapes of the public configurations that accompany
Ni et al. 2025, arXiv:2511.03276. Its other shapes were not published: `paper_2b`, `paper_4b` and `paper_8b`
have the ratios of `paper_1b`, h heads of 128 features, 26 / 14 h layers and a feed-forward width of 37 / 14
of the width, to whole layers and multiples of 128. Names count the parameters outside the embeddings.
"""

from typing import TypedDict


class Shape(TypedDict):
    """What fixes the size of a Transformer, apart from its vocabulary."""

    layers: int
    width: int
    heads: int
    ffn_width: int


SIZES: dict[str, Shape] = {
    "0.1m": {"layers": 2, "width": 64, "heads": 2, "ffn_width": 176},
    "0.2m": {"layers": 2, "width": 96, "heads": 2, "ffn_width": 256},
    "0.3m": {"layers": 3, "width": 96, "heads": 2, "ffn_width": 256},
    "0.8m": {"layers": 4, "width": 128, "heads": 2, "ffn_width": 344},
    "3m": {"layers": 6, "width": 192, "heads": 3, "ffn_width": 512},
    "10m": {"layers": 6, "width": 384, "heads": 6, "ffn_width": 1024},
    "25m": {"layers": 8, "width": 512, "heads": 8, "ffn_width": 1376},
    "85m": {"layers": 12, "width": 768, "heads": 12, "ffn_width": 2048},
    "300m": {"layers": 24, "width": 1024, "heads": 16, "ffn_width": 2736},
    "paper_1b": {"layers": 26, "width": 1792, "heads": 14, "ffn_width": 4736},
    "paper_2b": {"layers": 33, "width": 2304, "heads": 18, "ffn_width": 6144},
    "paper_4b": {"layers": 41, "width": 2816, "heads": 22, "ffn_width": 7424},
    "paper_8b": {"layers": 52, "width": 3584, "heads": 28, "ffn_width": 9472},
    "paper_coder_1_7b": {"layers": 28, "width": 2048, "heads": 16, "ffn_width": 6144},
}
