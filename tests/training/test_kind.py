"""Runs of one kind have one program; a field of the configuration is free for them or tells kinds apart."""

import os

import pytest
from training_bench import CAUSAL_MECHANISMS, DROPOUT, MIXTURE, batch, tiny_config

from lab.config import DataConfig, FactorsConfig, ModelConfig, TrainingConfig, make_config
from lab.training.kind import DATA, FREE, SWITCHED, kind_of

SECTIONS = {"data": DataConfig, "model": ModelConfig, "factors": FactorsConfig, "training": TrainingConfig}
ALL = {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}
SWITCHES = {f"{section}.{name}" for section, names in SWITCHED.items() for name in names}
EXPERT_CHOICE = {"model": {**MIXTURE["model"], "feed_forward": "expert_choice"}}
TEXT, PACKAGES = {"corpus": "text", "paths": ["a.txt"]}, {"corpus": "packages", "paths": []}

# Fields that tell kinds apart: an arm, what else it takes for the field to have a meaning, and another value.
TELLING = {
    "data.length": ("dlm", {}, 32),
    "data.windows": ("dlm", {}, "fixed"),
    "data.tokenizer": ("dlm", {}, "bpe:300"),
    "data.corpus": ("dlm", {"data": PACKAGES}, "stdlib"),
    "data.paths": ("dlm", {"data": TEXT}, ["b.txt"]),
    "model.size": ("dlm", {}, "0.8m"),
    "model.layers": ("dlm", {}, 2),
    "model.width": ("dlm", {}, 32),
    "model.heads": ("dlm", {}, 1),
    "model.ffn_width": ("dlm", {}, 64),
    "model.loops": ("dlm", {}, 2),
    "model.tie_embeddings": ("dlm", {}, False),
    "model.target_embedding": ("ar", {}, False),
    "model.head_dim": ("dlm", {}, 4),
    "model.kv_heads": ("dlm", {}, 1),
    "model.qk_norm": ("dlm", {}, False),
    "model.norm_gain": ("dlm", {}, True),
    "model.rope_base": ("dlm", {}, 500),
    "model.feed_forward": ("dlm", {"model": {**MIXTURE["model"], "balance_weight": 0.01}}, "expert_choice"),
    "model.experts": ("dlm", MIXTURE, 8),
    "model.experts_per_token": ("dlm", MIXTURE, 1),
    "model.capacity_factor": ("dlm", EXPERT_CHOICE, 2.0),
    "model.balance_weight": ("dlm", MIXTURE, 0.1),
    "model.router_z_weight": ("dlm", MIXTURE, 0.1),
    "model.attention_dropout": ("dlm", {}, 0.1),
    "model.mlp_dropout": ("dlm", {}, 0.1),
    "model.dtype": ("dlm", {}, "mixed_bfloat16"),
    "factors.order": ("ar", {}, "any"),
    "factors.compute": ("any_order_ar", {}, "dense"),
    "factors.draws": ("dlm", {}, 4),
    "factors.redraw": ("dlm", {}, "epoch"),
    "factors.complementary": ("dlm", {}, True),
    "factors.stratified": ("dlm", {}, True),
    "factors.passes": ("dlm", {}, 2),
    "factors.estimator": ("dlm", {}, "bernoulli"),
    "factors.noise_schedule": ("dlm", {"factors": {"estimator": "bernoulli"}}, "cosine"),
    "factors.noise_window": ("dlm", {}, "low"),
    "factors.input_noise": ("ar", {}, "mask:0-1"),
    "factors.loss_on": ("ar_masked", {}, "hidden"),
    "factors.attention_mask_dropout": ("dlm", {"factors": {"attention_mask_dropout": 0.1}}, 0.2),
    "factors.block": ("dlm", {}, 4),
    "factors.ar_share": ("dlm", {"factors": {"ar_share": 0.25}}, 0.5),
    "factors.read_as": ("dlm", {"factors": {"ar_share": 0.5}}, "causal"),
    "training.batch_size": ("dlm", {}, 8),
    "training.accumulation": ("dlm", {}, 2),
    "training.schedule": ("dlm", {}, "cosine"),
    "training.ema": ("dlm", {}, 0.9),
    "training.parallel": ("dlm", {}, "data"),
    "training.model_parallel": ("dlm", {"training": {"parallel": "model"}}, 2),
    "training.rematerialise": ("dlm", {}, True),
}


def values_of(config):
    """Dotted key -> value, of the sections that could decide a program."""
    return {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in config.model_dump(mode="json")[section].items()
    }


def changed(one, other):
    """The keys under which two configurations differ."""
    left, right = values_of(one), values_of(other)
    return {key for key in left if left[key] != right[key]}


def test_a_field_is_free_or_tells_kinds_apart():
    """A new one belongs in `FREE` of lab/training/kind.py, or in `TELLING` above."""
    fields = {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}
    free = {f"training.{name}" for name in FREE} | {
        f"data.{n}" for n in DataConfig.model_fields if n not in DATA
    }
    switched = {f"{section}.{name}" for section, names in SWITCHED.items() for name in names}
    assert free | TELLING.keys() == fields
    assert not free & TELLING.keys()
    assert switched <= TELLING.keys()


@pytest.mark.parametrize("field", TELLING)
def test_such_a_field_tells_kinds_apart(field):
    arm, layer, value = TELLING[field]
    section, name = field.split(".")
    one, other = (tiny_config(arm, layer, change) for change in ({}, {section: {name: value}}))
    assert changed(one, other) == {field}
    assert kind_of(one) != kind_of(other)


# Runs of one kind. Between the first and the others every free number differs, and every switched one.
BASE = {"model": DROPOUT, "training": {"ema": 0.9, "accumulation": 2}}
LIKE = (
    {
        **{"arm": "other", "seed": 7, "member": 2},
        "data": {"unique_tokens": 160, "subset": "fixed", "quality_field": "stars", "quality": "low"},
        "model": {"attention_dropout": 0.2, "mlp_dropout": 0.3},
        "training": {
            **{"total_tokens": 6400, "total_share": 0.5, "decay_share": 0.1, "warmup_steps": 0},
            **{"learning_rate": 0.002, "final_learning_rate_share": 0.1, "weight_decay": 0.0},
            **{
                "weight_decay_warmup_steps": 3,
                "beta_1": 0.0,
                "beta_2": 0.0,
                "epsilon": 1e-6,
                "clip_norm": 0.5,
            },
            **{"ema": 0.99, "log_steps": 2, "checkpoint_steps": 30, "kept_megabytes": 1.0, "patience": 2},
            "perturbation": 1e-3,
        },
        "evaluation": {"stops": 1, "validation_windows": 4, "sample_tokens": 0},
    },
    {
        "data": {
            "text_field": "body",
            "document_characters": 500,
            "validation_share": 0.1,
            "test_share": 0.1,
        },
        "training": {"total_epochs": 3, "start_from": "ar"},
    },
)


def test_free_and_switched_numbers_do_not():
    base = tiny_config("dlm", BASE)
    like = [tiny_config("dlm", BASE, layer) for layer in LIKE]
    assert {kind_of(config) for config in like} == {kind_of(base)}
    free = ALL - TELLING.keys() | SWITCHES
    assert set().union(*(changed(base, config) for config in like)) == free - {"data.functions"}
    made = [
        make_config(
            base.model_dump(mode="json", exclude_none=True),
            {"data": {"corpus": "functions", "paths": [], "functions": count}},
        )
        for count in (20_000, 500)
    ]
    assert kind_of(made[0]) == kind_of(made[1]) != kind_of(base)


def test_what_a_scorer_reads_at_a_time_tells_kinds_apart():
    configs = [tiny_config("dlm", {"evaluation": {"batch_size": size}}) for size in (32, 64)]
    assert kind_of(configs[0]) != kind_of(configs[1])


def program_of(config):
    """The text of the compiled train step, before it is made fast."""
    import jax

    from lab.training.build import build_learner
    from lab.training.joint_jax import _state

    learner = build_learner(config, 5)
    rows = config.training.batch_size // config.training.accumulation
    return jax.jit(learner.train_step).lower(_state(learner), (batch(rows, 5),)).as_text()


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="reads the programs of JAX")
@pytest.mark.parametrize(("arm", "layer"), [("dlm", {}), ("any_order_ar", CAUSAL_MECHANISMS)])
def test_runs_of_one_kind_have_one_program(arm, layer):
    """Letter by letter: no number of one is written into it."""
    base = tiny_config(arm, BASE, layer)
    program = program_of(base)
    for like in LIKE:
        config = tiny_config(
            arm, BASE, layer, {**like, "model": {**layer.get("model", {}), **like.get("model", {})}}
        )
        assert kind_of(config) == kind_of(base)
        assert program_of(config) == program
    other = tiny_config(arm, BASE, layer, {"factors": {"attention_mask_dropout": 0.2}})
    assert kind_of(other) != kind_of(base)
    assert program_of(other) != program
