"""Tiny checkpoints as other programs write them, and what these programs compute of them, in float64 NumPy.

The names and the forward pass are written from those programs' own code, not from the lab's.
"""

import json

import numpy as np
from safetensors.numpy import save_file

VOCAB, WIDTH, HEADS, KV_HEADS, FFN, LAYERS, LENGTH = 50, 32, 4, 2, 48, 2, 12
EPSILON, BASE = 0.01, 300.0  # so far from the lab's own that a model with those would be another
LLAMA = {
    "hidden_size": WIDTH,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "hidden_act": "silu",
    "max_position_embeddings": LENGTH,
    "rms_norm_eps": EPSILON,
    "rope_theta": BASE,
    "tie_word_embeddings": False,
    "vocab_size": VOCAB,
    "eos_token_id": 3,
    "torch_dtype": "float32",
    "use_cache": True,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
PAPER = {
    **LLAMA,
    "mask_token_id": 41,
    "sliding_window": LENGTH,
    "use_sliding_window": False,
    "use_mrope": False,
    "max_window_layers": LAYERS,
}
CONFIGS = {
    "paper_dlm": {
        **PAPER,
        "architectures": ["DiffLM"],
        "attn_mask_type": "bidirectional",
        "auto_map": {"AutoModelForCausalLM": "modeling_dlm.DiffLM"},
        "tie_word_embeddings": True,
    },
    "paper_ar": {**PAPER, "architectures": ["CausalLM"], "attn_mask_type": "causal"},
    "qwen3": {
        **{key: value for key, value in LLAMA.items() if key != "rope_theta"},
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 12,
        "attention_bias": False,
        "rope_parameters": {"rope_theta": BASE, "rope_type": "default"},
        "layer_types": ["full_attention"] * LAYERS,
        "bos_token_id": 7,
        "use_sliding_window": False,
        "sliding_window": None,
    },
    "llama": {
        **LLAMA,
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "mlp_bias": False,
        "rope_scaling": None,
        "tie_word_embeddings": True,
    },
    "llada": {
        "architectures": ["LLaDAModelLM"],
        "activation_type": "silu",
        "alibi": False,
        "attention_layer_norm": False,
        "block_type": "llama",
        "d_model": WIDTH,
        "embedding_size": VOCAB,
        "eos_token_id": 3,
        "include_bias": False,
        "include_qkv_bias": False,
        "input_emb_norm": False,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "mask_token_id": 41,
        "max_sequence_length": LENGTH,
        "mlp_hidden_size": FFN,
        "model_type": "llada",
        "n_heads": HEADS,
        "n_kv_heads": KV_HEADS,
        "n_layers": LAYERS,
        "rms_norm_eps": EPSILON,
        "rope": True,
        "rope_theta": BASE,
        "scale_logits": False,
        "vocab_size": VOCAB,
        "weight_tying": False,
    },
}
CAUSAL = ("paper_ar", "qwen3", "llama")
PARTS = {
    False: {
        "table": "model.embed_tokens.weight",
        "norm": "model.norm.weight",
        "head": "lm_head.weight",
        "layer": "model.layers.{}.",
        "q": "self_attn.q_proj.weight",
        "k": "self_attn.k_proj.weight",
        "v": "self_attn.v_proj.weight",
        "o": "self_attn.o_proj.weight",
        "q_norm": "self_attn.q_norm.weight",
        "k_norm": "self_attn.k_norm.weight",
        "before": "input_layernorm.weight",
        "after": "post_attention_layernorm.weight",
        "gate": "mlp.gate_proj.weight",
        "up": "mlp.up_proj.weight",
        "down": "mlp.down_proj.weight",
    },
    True: {
        "table": "model.transformer.wte.weight",
        "norm": "model.transformer.ln_f.weight",
        "head": "model.transformer.ff_out.weight",
        "layer": "model.transformer.blocks.{}.",
        "q": "q_proj.weight",
        "k": "k_proj.weight",
        "v": "v_proj.weight",
        "o": "attn_out.weight",
        "before": "attn_norm.weight",
        "after": "ff_norm.weight",
        "gate": "ff_proj.weight",
        "up": "up_proj.weight",
        "down": "ff_out.weight",
    },
}


def tensors_of(kind, seed=0):
    """Random weights of a layout, of order 1, so that no part is lost in another's shadow."""
    rng, parts = np.random.default_rng(seed), PARTS[kind == "llada"]
    head_dim = CONFIGS[kind].get("head_dim", WIDTH // HEADS)
    shapes = {
        "q": (HEADS * head_dim, WIDTH),
        "k": (KV_HEADS * head_dim, WIDTH),
        "v": (KV_HEADS * head_dim, WIDTH),
        "o": (WIDTH, HEADS * head_dim),
        "before": (WIDTH,),
        "after": (WIDTH,),
        "gate": (FFN, WIDTH),
        "up": (FFN, WIDTH),
        "down": (WIDTH, FFN),
    }
    if kind not in ("llama", "llada"):
        shapes |= {"q_norm": (head_dim,), "k_norm": (head_dim,)}
    tensors = {
        parts["table"]: rng.normal(size=(VOCAB, WIDTH)),
        parts["norm"]: 1 + 0.3 * rng.normal(size=WIDTH),
    }
    if not CONFIGS[kind].get("tie_word_embeddings"):
        tensors[parts["head"]] = rng.normal(size=(VOCAB, WIDTH))
    for layer in range(LAYERS):
        for part, shape in shapes.items():
            drawn = rng.normal(size=shape)
            values = 1 + 0.3 * drawn if len(shape) == 1 else drawn / shape[1] ** 0.5
            tensors[parts["layer"].format(layer) + parts[part]] = values
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def write_checkpoint(folder, kind, tensors=None, shards=0, **changes):
    """A folder as that program leaves it; in shards with an index, or in one file. None takes a key away."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in {**CONFIGS[kind], **changes}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = tensors_of(kind) if tensors is None else tensors
    if not shards:
        save_file(tensors, folder / "model.safetensors")
        return folder
    places = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
    for place in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == place}, folder / place)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def logits_of(kind, tensors, tokens):
    """What that program gives for one sequence of tokens: (n, VOCAB) float64."""
    parts = PARTS[kind == "llada"]
    tensors = {name: array.astype(np.float64) for name, array in tensors.items()}
    head_dim = CONFIGS[kind].get("head_dim", WIDTH // HEADS)
    half, slots = head_dim // 2, len(tokens)
    inverse = 1.0 / BASE ** (np.arange(0, head_dim, 2) / head_dim)
    angles = np.concatenate([np.outer(np.arange(slots), inverse)] * 2, axis=1)

    def norm(x, gain):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * gain

    def turned(x):  # (slots, head_dim)
        return x * np.cos(angles) + np.concatenate([-x[:, half:], x[:, :half]], axis=1) * np.sin(angles)

    x = tensors[parts["table"]][tokens]
    for layer in range(LAYERS):
        w = {
            part: tensors.get(parts["layer"].format(layer) + name)
            for part, name in parts.items()
            if part not in ("table", "norm", "head", "layer")
        }
        y, attended = norm(x, w["before"]), []
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            q = y @ w["q"][head * head_dim : (head + 1) * head_dim].T
            k, v = (y @ w[part][group * head_dim : (group + 1) * head_dim].T for part in "kv")
            if w.get("q_norm") is not None:
                q, k = norm(q, w["q_norm"]), norm(k, w["k_norm"])
            scores = turned(q) @ turned(k).T / np.sqrt(head_dim)
            if kind in CAUSAL:
                scores = np.where(np.tri(slots, dtype=bool), scores, -np.inf)
            chances = np.exp(scores - scores.max(-1, keepdims=True))
            attended.append(chances / chances.sum(-1, keepdims=True) @ v)
        x = x + np.concatenate(attended, axis=1) @ w["o"].T
        y = norm(x, w["after"])
        gate = y @ w["gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["up"].T)) @ w["down"].T
    return norm(x, tensors[parts["norm"]]) @ tensors.get(parts["head"], tensors[parts["table"]]).T
