"""What checkpoints of other programs say in their configurations, class by class of their models.

Facts of the source paper's files: JinjieNi/MegaDLMs, `tools/weights_conversion/hf_configs`; of LLaDA's: the
configuration beside its weights (Nie et al. 2025, arXiv:2502.09992).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lab.arms import ARMS
from lab.config import FactorsConfig
from lab.training.exchange.names import LLADA, LLAMA, Names

IDS = ("mask_token_id", "bos_token_id", "eos_token_id")
_COMMON = {"architectures", "auto_map", "model_type", "transformers_version", "torch_dtype", "dtype"}
_COMMON |= {"use_cache", "attention_dropout", "pad_token_id", "_name_or_path", "return_dict"}
_KEYS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn_width": "intermediate_size",
    "vocab_size": "vocab_size",
    "length": "max_position_embeddings",
    "norm_epsilon": "rms_norm_eps",
    "rope_base": "rope_theta",
    "tie_embeddings": "tie_word_embeddings",
}
_DEFAULTS: Mapping[str, Any] = {"kv_heads": None, "head_dim": None, "tie_embeddings": False}
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_scaling": (None,),
    "use_sliding_window": (False, None),
    "use_mrope": (False,),
    "pretraining_tp": (1,),
}


_LOOKED_AT = frozenset({"layer_types", "rope_parameters"})
# Sliding windows are refused by `use_sliding_window`, without which the other two keys of theirs do nothing.
_UNREAD = frozenset({*_COMMON, "initializer_range", "sliding_window", "max_window_layers"})


class Layout(NamedTuple):
    """What the checkpoints of one class of models have in common; by default as LLaMA's descendants have it.

    Attributes:
        title: what they are, for the card.
        causal: whether they are autoregressive.
        qk_norm: whether queries and keys are normalised, head by head.
        names: of their tensors.
        keys: field of `Architecture` -> key of their configuration.
        defaults: field -> its value where the configuration says nothing; where None, that of `Architecture`.
        only: key -> the values that are implemented; one that is missing has the first.
        looked_at: keys that are checked one by one.
        unread: keys on which no prediction depends.
        estimator: by which dense ones were trained.
    """

    title: str
    causal: bool
    qk_norm: bool
    names: Names = LLAMA
    keys: Mapping[str, str] = _KEYS
    defaults: Mapping[str, Any] = _DEFAULTS
    only: Mapping[str, tuple[Any, ...]] = _ONLY
    looked_at: frozenset[str] = _LOOKED_AT
    unread: frozenset[str] = _UNREAD
    estimator: str = "counted"

    @property
    def arm(self) -> str:
        """The corner of the cube that they are read as."""
        return "ar" if self.causal else "dlm"

    @property
    def factors(self) -> FactorsConfig:
        """The same as factors."""
        return FactorsConfig.model_validate({**ARMS[self.arm], "estimator": self.estimator})


# By the name of the class, as `architectures` of the configuration has it.
LAYOUTS: Mapping[str, Layout] = {
    "DiffLM": Layout(
        title="a masked-diffusion model of Ni et al. 2025 (arXiv:2511.03276)",
        causal=False,
        qk_norm=True,
        only={**_ONLY, "attn_mask_type": ("bidirectional",)},
    ),
    "CausalLM": Layout(
        title="an autoregressive model of Ni et al. 2025 (arXiv:2511.03276)",
        causal=True,
        qk_norm=True,
        only={**_ONLY, "attn_mask_type": ("causal",)},
    ),
    "Qwen3ForCausalLM": Layout(
        title="a model of the Qwen3 class of transformers",
        causal=True,
        qk_norm=True,
        defaults={"tie_embeddings": False},  # its others are those of one size
    ),
    "LlamaForCausalLM": Layout(
        title="a model of the LLaMA class of transformers", causal=True, qk_norm=False
    ),
    "LLaDAModelLM": Layout(
        title="a model of LLaDA (arXiv:2502.09992)",
        causal=False,
        qk_norm=False,
        names=LLADA,
        keys={
            "layers": "n_layers",
            "width": "d_model",
            "heads": "n_heads",
            "kv_heads": "n_kv_heads",
            "ffn_width": "mlp_hidden_size",
            "vocab_size": "vocab_size",
            "length": "max_sequence_length",
            "norm_epsilon": "rms_norm_eps",
            "rope_base": "rope_theta",
            "tie_embeddings": "weight_tying",
        },
        defaults={"kv_heads": None},
        only={
            "activation_type": ("silu",),
            "alibi": (False,),
            "attention_layer_norm": (False,),
            "bias_for_layer_norm": (False, None),
            "block_group_size": (1,),
            "block_type": ("llama",),
            "include_bias": (False,),
            "include_qkv_bias": (False, None),
            "input_emb_norm": (False,),
            "layer_norm_type": ("rms",),
            "layer_norm_with_affine": (True,),
            "multi_query_attention": (None, False),
            "rope": (True,),
            "scale_logits": (False,),
        },
        looked_at=frozenset({"embedding_size"}),
        unread=frozenset(_COMMON)
        | {"alibi_bias_max", "attention_layer_norm_with_affine", "embedding_dropout", "flash_attention"}
        | {"init_cutoff_factor", "init_device", "init_fn", "init_std", "mlp_ratio", "precision"}
        | {"residual_dropout", "rope_full_precision"},
        estimator="bernoulli",
    ),
}
