import math
import re

import pytest
import yaml

import lab.config
from lab.arms import ARMS, arm_values
from lab.config import (
    PRESETS_DIR,
    EvaluationConfig,
    InferenceConfig,
    RunConfig,
    load_config,
    make_config,
    merge,
    nest,
    parse_overrides,
    preset_layers,
    preset_name,
    preset_names,
    read_preset,
    read_yaml,
)
from lab.models.architecture import Architecture
from lab.models.sizes import SIZES
from lab.version import Version

BASE = {"training": {"total_tokens": 1000}}

INVALID = {
    "unknown key": ({"model": {"wdth": 3}}, r"model\.wdth: no such key; model has \['attention_dropout'"),
    "unknown section": ({"modle": {}}, r"modle: no such key; the top level has \['arm', 'code', 'data'"),
    "section is a number": ({"model": 3}, r"model: Input should be a valid dictionary.*but got 3"),
    "training is a number": ({"training": 3}, r"training: Input should be a valid dictionary.*but got 3"),
    "range": ({"model": {"mlp_dropout": 1.0}}, r"model\.mlp_dropout: .*less than 1, but got 1\.0"),
    "not finite": ({"training": {"learning_rate": float("inf")}}, r"learning_rate: .*finite.*but got inf"),
    "text without paths": (
        {"data": {"corpus": "text"}},
        r"`paths` must name files.*corpus=text and paths=\[\]",
    ),
    "paths without text": ({"data": {"paths": ["a.txt"]}}, r"`paths` must name files.*paths=\['a\.txt'\]"),
    "size": ({"model": {"size": "9m"}}, r"`size` must be one of \['0\.1m'.*but got size='9m'"),
    "size of a wrong type": ({"model": {"size": ["3m"]}}, r"`size` must be one of .*but got size=\['3m'\]"),
    "heads": ({"model": {"heads": 3}}, r"`width / heads` must be a whole even.*width=128, heads=3"),
    "odd head": (
        {"model": {"width": 6, "heads": 2}},
        r"`width / heads` must be a whole even.*width=6, heads=2",
    ),
    "odd head of its own": (
        {"model": {"head_dim": 5}},
        r"`head_dim` must be an even number above 0.*head_dim=5",
    ),
    "heads of keys": ({"model": {"kv_heads": 3}}, r"`kv_heads` must divide heads.*kv_heads=3, heads=2"),
    "rope_base": ({"model": {"rope_base": 1.0}}, r"model\.rope_base: .*greater than 1, but got 1\.0"),
    "parts of heads of keys": (
        {"model": {"kv_heads": 1}, "training": {"parallel": "model", "model_parallel": 2}},
        r"`model_parallel` must divide heads, kv_heads, .*model_parallel=2, kv_heads=1",
    ),
    "experts that see the future": (
        {"model": {"feed_forward": "expert_choice", "experts": 4}},
        "`feed_forward` must be swiglu or token_choice unless compute=dense.*, but got .*compute=causal",
    ),
    "experts that see the future in some rows": (
        {
            "model": {"feed_forward": "expert_choice", "experts": 4},
            "factors": {"order": "any", "compute": "dense", "ar_share": 0.5},
        },
        "`feed_forward` must be swiglu or token_choice unless .*ar_share=0,.*, but got .*ar_share=0.5",
    ),
    "experts shared by blocks": (
        {
            "model": {"feed_forward": "token_choice", "experts": 4},
            "factors": {"order": "any", "compute": "dense", "block": 4},
        },
        "`feed_forward` must be swiglu where factors.block .*, but got feed_forward=token_choice, block=4",
    ),
    "capacity of no expert": (
        {"model": {"capacity_factor": 2.0}},
        r"`capacity_factor` must be 1\.25 where feed_forward=swiglu has no use for it, but got .*=2\.0",
    ),
    "balance of experts that choose": (
        {"model": {"feed_forward": "expert_choice", "experts": 4, "balance_weight": 0.0}},
        r"`balance_weight` must be 0\.01 where feed_forward=expert_choice has no use for it",
    ),
    "parts of experts": (
        {
            "model": {"feed_forward": "token_choice", "experts": 3},
            "training": {"parallel": "model", "model_parallel": 2},
        },
        r"`model_parallel` must divide heads, kv_heads, width and experts, .*model_parallel=2, experts=3",
    ),
    "no target for an order": (
        {"model": {"target_embedding": False}, "factors": {"order": "any"}},
        r"`target_embedding` must be true where .*but got compute=causal, order=any",
    ),
    "order": ({"factors": {"order": "fixed"}}, r"`order` must be left_to_right, any.*order='fixed'"),
    "draws": ({"factors": {"draws": 0}}, r"`draws` must be a whole number >= 1 .* but got draws=0"),
    "draws beyond int32": ({"factors": {"draws": 2**31}}, r"and < 2\*\*31, or inf, but got draws=2147483648"),
    "rows beyond int32": (
        {"training": {"batch_size": 2**31, "accumulation": 2**31}},
        r"training\.batch_size: .* less than 2147483648, but got 2147483648",
    ),
    "text too short to repeat itself": (
        {"inference": {"prompt_share": 0.97}},
        r"`inference\.prompt_share` must leave at least 4 tokens of data\.length=64 to generate, "
        r"but got prompt_share=0\.97, which leaves 2\.",
    ),
    "bernoulli causal": (
        {"factors": {"estimator": "bernoulli", "order": "any"}},
        r"estimator=bernoulli hides each token.*but got compute=causal, order=any",
    ),
    "bernoulli suffixes": (
        {"factors": {"estimator": "bernoulli", "compute": "dense"}},
        r"estimator=bernoulli hides each token.*but got compute=dense, order=left_to_right",
    ),
    "schedule unused": (
        {"factors": {"noise_schedule": "cosine"}},
        r"noise_schedule=cosine acts through estimator=bernoulli only, but got .*estimator=counted",
    ),
    "no duration": ({"training": {"total_tokens": None}}, r"exactly one of total_epochs.*but got \[\]"),
    "two durations": (
        {"training": {"total_tokens": 9, "total_steps": 9}},
        r"exactly one of total_epochs.*but got \['total_tokens', 'total_steps'\]",
    ),
    "accumulation": (
        {"training": {"total_steps": 9, "accumulation": 3}},
        r"`accumulation` must divide `batch_size`, but got accumulation=3, batch_size=32",
    ),
    "blocks of nothing": (
        {"factors": {"block": 0}},
        r"`block` must be a whole number >= 1 or window.*block=0",
    ),
    "blocks that do not fill the window": (
        {"factors": {"order": "any", "compute": "dense", "block": 5}},
        r"`block` must divide data\.length=64, but got block=5",
    ),
    "share of a row": (
        {"factors": {"order": "any", "compute": "dense", "ar_share": 0.3}},
        r"`ar_share` must be n / 32 with n of 0\.\.32, .*but got ar_share=0\.3",
    ),
    "share of a row of a part": (
        {"factors": {"order": "any", "compute": "dense", "ar_share": 0.25}, "training": {"accumulation": 16}},
        r"`ar_share` must be n / 2 with n of 0\.\.2, .*but got ar_share=0\.25",
    ),
    "options too long": (
        {"data": {"length": 55}},
        r"the whole: choice_context_tokens \+ choice_option_tokens must fit in data\.length, but got 56 > 55",
    ),
    "arm in a path": ({"arm": "../x"}, r"arm: String should match pattern.*but got '\.\./x'"),
    "half a pair of draws": ({"evaluation": {"nelbo_draws": 3}}, r"nelbo_draws: .*multiple of 2, but got 3"),
    "seed": ({"seed": -1}, r"seed: .*greater than or equal to 0, but got -1"),
}


DENSE = {"order": "any", "compute": "dense"}
BERNOULLI = {**DENSE, "estimator": "bernoulli"}
# Cells of the cube that do not exist, with the factor that the message must name.
IMPOSSIBLE = {
    "passes of nothing": ({"passes": 2}, "passes"),
    "passes of one order": ({"order": "fixed:1", "passes": 2}, "passes"),
    "passes of the reverse order": ({"order": "right_to_left:1", "passes": 2}, "passes"),
    "passes of masks alone": ({"input_noise": "mask:1", "passes": 2}, "passes"),
    "passes that hide all": ({**DENSE, "noise_window": "fixed:1", "passes": 2}, "passes"),
    "passes that hide one end": ({"compute": "dense", "noise_window": "fixed:0.5", "passes": 2}, "passes"),
    "passes of single tokens": ({**DENSE, "block": 1, "passes": 2}, "passes"),
    "more passes than one draw": ({**DENSE, "draws": 1, "passes": 2}, "passes=2 .* draws=1"),
    "more passes than draws": ({"order": "any", "draws": 2, "passes": 4}, "passes=4 .* draws=2"),
    "no pass": ({**DENSE, "passes": 0}, "passes"),
    "pairs of orders": ({"order": "any", "complementary": True}, "complementary"),
    "pairs of suffixes": ({"compute": "dense", "complementary": True}, "complementary"),
    "pairs of coins": ({**BERNOULLI, "complementary": True}, "complementary"),
    "half a pair": ({**DENSE, "draws": 1, "complementary": True}, "complementary"),
    "window of orders": ({"order": "any", "noise_window": "low"}, "noise_window"),
    "window of coins": ({**BERNOULLI, "noise_window": "high"}, "noise_window"),
    "no such window": ({**DENSE, "noise_window": "lowest"}, "noise_window"),
    "window without its share": ({**DENSE, "noise_window": "fixed"}, "noise_window"),
    "share above 1": ({**DENSE, "noise_window": "fixed:1.5"}, "noise_window"),
    "share that is no number": ({**DENSE, "noise_window": "fixed:nan"}, "noise_window"),
    "noise on a dense pass": ({**DENSE, "input_noise": "mask:0-1"}, "input_noise"),
    "no such noise": ({"input_noise": "blur:0.5"}, "input_noise"),
    "noise without its ratio": ({"input_noise": "mask"}, "input_noise"),
    "noise on more than all": ({"input_noise": "mask:1.5"}, "input_noise"),
    "noise that is no number": ({"input_noise": "replace:0-nan"}, "input_noise"),
    "noise from above zero": ({"input_noise": "mask:0.2-0.5"}, "input_noise"),
    "hidden loss of clean inputs": ({"loss_on": "hidden"}, "loss_on"),
    "every slot blocked": ({"attention_mask_dropout": 1.0}, "attention_mask_dropout"),
    "epochs of nothing": ({"redraw": "epoch"}, "redraw"),
    "strata of nothing": ({"order": "any", "stratified": True}, "stratified"),
    "strata of one ratio": ({"input_noise": "mask:0.5", "stratified": True}, "stratified"),
    "strata of one count": ({**DENSE, "noise_window": "fixed:0.5", "stratified": True}, "stratified"),
    "strata of coins": ({**BERNOULLI, "stratified": True}, "stratified"),
    "strata of frozen draws": ({**DENSE, "draws": 4, "stratified": True}, "stratified"),
    "strata of one draw for all": ({**DENSE, "redraw": "epoch", "stratified": True}, "stratified"),
    "strata of pairs": ({**DENSE, "complementary": True, "stratified": True}, "stratified"),
    "blocks of orders": ({"order": "any", "block": 4}, "block"),
    "blocks of suffixes": ({"compute": "dense", "block": 4}, "block"),
    "blocks of coins": ({**BERNOULLI, "block": 4}, "block"),
    "blocks with a noise window": ({**DENSE, "block": 4, "noise_window": "low"}, "block"),
    "blocks of pairs": ({**DENSE, "block": 4, "complementary": True}, "block"),
    "blocks of hidden slots": ({**DENSE, "block": 4, "attention_mask_dropout": 0.1}, "block"),
    "left to right among orders": ({"order": "any", "ar_share": 0.5}, "ar_share"),
    "share of more than all rows": ({**DENSE, "ar_share": 1.5}, "ar_share"),
    "share of no fraction": ({**DENSE, "ar_share": 0.1234567}, "ar_share"),
    "strata of some rows": ({**DENSE, "ar_share": 0.5, "stratified": True}, "stratified"),
    "pairs of no rows": ({**DENSE, "ar_share": 1, "complementary": True}, "ar_share"),
    "coins for no rows": ({**BERNOULLI, "ar_share": 1}, "ar_share"),
    "blocks of no rows": ({**DENSE, "ar_share": 1, "block": 4}, "ar_share"),
    "draws of no rows": ({**DENSE, "ar_share": 1, "draws": 4}, "ar_share"),
    "passes of rows left to right": ({**DENSE, "ar_share": 1, "passes": 2}, "passes"),
    "a choice of one reading": ({"read_as": "causal"}, "read_as"),
}
POSSIBLE = [
    {"order": "any", "passes": 4},
    {"input_noise": "mask:0-1", "passes": 2},
    {"attention_mask_dropout": 0.1, "passes": 2},
    {"order": "fixed:4", "passes": 2, "draws": 4},
    {"order": "fixed:1", "input_noise": "replace:1", "passes": 2},
    {"order": "right_to_left:0.5", "passes": 2},
    {**DENSE, "noise_window": "fixed:0.5", "passes": 2},
    {**DENSE, "noise_window": "fixed:1", "ar_share": 0.5, "passes": 2},
    {**DENSE, "draws": 2, "passes": 2},
    {**DENSE, "complementary": True},
    {**DENSE, "complementary": True, "draws": 4, "redraw": "epoch", "passes": 2},
    {**DENSE, "noise_window": "fixed:0.15"},
    {"compute": "dense", "noise_window": "low"},
    {**DENSE, "stratified": True, "passes": 2},
    {"compute": "dense", "noise_window": "high", "stratified": True},
    {"input_noise": "replace:0-0.5", "stratified": True},
    {"order": "any", "input_noise": "replace:0.3", "loss_on": "hidden"},
    {"order": "right_to_left:0.5", "input_noise": "mask:0-0.5", "draws": 1},
    {**BERNOULLI, "attention_mask_dropout": 0.5, "redraw": "epoch"},
    {**DENSE, "block": 4, "draws": 4, "redraw": "epoch", "passes": 2},
    {**DENSE, "block": 64, "stratified": True},
    {**DENSE, "block": 16, "ar_share": 0.5},
    {**DENSE, "ar_share": 0.25, "passes": 2, "draws": 4, "read_as": "causal"},
    {**DENSE, "ar_share": 1, "read_as": "causal"},
    {**DENSE, "ar_share": 1, "draws": 4, "attention_mask_dropout": 0.1, "passes": 2},
    {**DENSE, "read_as": "causal"},
]


@pytest.mark.parametrize(("factors", "name"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_cell_says_which_and_why(factors, name):
    with pytest.raises(ValueError, match=rf"(?s)is not valid:\n  factors.*{name}.*but got"):
        make_config(BASE, {"factors": factors})


@pytest.mark.parametrize("factors", POSSIBLE, ids=str)
def test_a_possible_cell_is_taken_as_it_is(factors):
    found = make_config(BASE, {"factors": factors}).factors
    assert {name: getattr(found, name) for name in factors} == factors


@pytest.mark.parametrize(
    ("windows", "order", "taken"),
    [("fixed", "any", False), ("jittered", "left_to_right", False), ("jittered", "any", True)],
)
def test_two_tokens_have_no_third_of_counts_and_a_third_of_levels(windows, order, taken):
    layer = {
        "data": {"length": 2, "windows": windows},
        "factors": {"compute": "dense", "order": order, "noise_window": "low"},
        "evaluation": {"choice_context_tokens": 1, "choice_option_tokens": 1},
    }
    if taken:
        assert make_config(BASE, layer).factors.noise_window == "low"
    else:
        with pytest.raises(ValueError, match=r"`length` must be at least 3 for noise_window=low.*length=2\."):
            make_config(BASE, layer)
    for other in ("mid", "high"):
        make_config(BASE, layer, {"factors": {"noise_window": other}})


@pytest.mark.parametrize("loops", [0, -1])
def test_loops_are_at_least_one(loops):
    with pytest.raises(ValueError, match=rf"model\.loops: .*greater than.*but got {loops}"):
        make_config(BASE, {"model": {"loops": loops}})


@pytest.mark.parametrize(("layer", "message"), INVALID.values(), ids=INVALID.keys())
def test_invalid_value_is_named(layer, message):
    with pytest.raises(ValueError, match=rf"(?s)the configuration is not valid:\n  .*{message}"):
        make_config(BASE, layer)


def test_every_problem_is_named_at_once():
    with pytest.raises(ValueError, match=r"(?s)seed: .*model\.mlp_dropout: "):
        make_config(BASE, {"model": {"mlp_dropout": -1}, "seed": -1})


def test_training_is_required():
    with pytest.raises(ValueError, match=r"training: Field required$"):
        make_config()


def test_later_layers_win_and_leave_the_rest():
    config = make_config(BASE, {"model": {"size": "0.1m"}, "seed": 1}, {"model": {"width": 32}, "seed": 2})
    assert (config.model.layers, config.model.width, config.seed) == (SIZES["0.1m"]["layers"], 32, 2)


def test_a_duration_takes_away_those_below():
    training = make_config(BASE, {"training": {"total_epochs": 3, "warmup_steps": 1}}).training
    assert (training.total_tokens, training.total_epochs, training.warmup_steps) == (None, 3, 1)


@pytest.mark.parametrize("below", [3, None])
def test_a_duration_over_a_broken_section_counts_alone(below):
    assert make_config({"training": below}, BASE) == make_config(BASE)


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        make_config(BASE).seed = 1


def test_yaml_round_trip_keeps_every_value_and_the_key(tmp_path):
    config = make_config(
        BASE,
        arm_values("dlm"),
        {
            "data": {"corpus": "text", "paths": ["ä.txt"]},
            "training": {"epsilon": 3e-9, "learning_rate": 1e-8},
        },
    )
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config
    assert load_config(path).keyed_values() == config.keyed_values()


# Every field of what a run is trained from has decided whether it is in the run's key.
UNKEYED = {
    *(f"data.{key}" for key in ("corpus", "paths", "text_field", "document_characters", "tokenizer")),
    # all in the hash of the data
    *("data.functions", "data.quality_field", "data.validation_share", "data.test_share"),
    "model.size",  # stands for layers, width, heads and ffn_width
    *(f"training.{key}" for key in ("log_steps", "checkpoint_steps", "kept_megabytes")),
    *("training.parallel", "training.model_parallel"),
    "factors.read_as",  # says how the weights are measured
}
# What drops out of the key, and at which value; a value of another meaning, to be told from it.
NEUTRAL = {
    "data.quality": ("", "low"),
    "model.loops": (1, 2),
    "model.target_embedding": (True, False),
    "model.qk_norm": (True, False),
    "model.norm_gain": (False, True),
    "model.rope_base": (10_000.0, 500.0),
    "model.feed_forward": ("swiglu", "token_choice"),
    "model.experts": (1, 4),
    "model.experts_per_token": (1, 2),
    "model.capacity_factor": (1.25, 2.0),
    "model.balance_weight": (0.01, 0.0),
    "model.router_z_weight": (0.001, 0.0),
    "model.attention_dropout": (0.0, 0.1),
    "model.mlp_dropout": (0.0, 0.1),
    "factors.redraw": ("visit", "epoch"),
    "factors.complementary": (False, True),
    "factors.stratified": (False, True),
    "factors.passes": (1, 2),
    "factors.noise_schedule": ("linear", "cosine"),
    "factors.noise_window": ("all", "low"),
    "factors.input_noise": ("none", "mask:0-1"),
    "factors.loss_on": ("all", "hidden"),
    "factors.attention_mask_dropout": (0.0, 0.1),
    "factors.block": ("window", 4),
    "factors.ar_share": (0.0, 0.5),
    "training.accumulation": (1, 2),
    "training.ema": (0.0, 0.9),
    "training.total_share": (1.0, 0.5),
    "training.weight_decay_warmup_steps": (0, 5),
    "training.start_from": ("", "ar"),
    "training.rematerialise": (False, True),
    "training.perturbation": (0.0, 1e-6),
    "training.patience": (0, 2),
    "member": (0, 2),
}
# What is always in the key where it is set, and two values of it.
KEYED = {
    "data.unique_tokens": (5000, 6000),
    "data.length": (64, 128),
    "data.windows": ("fixed", "jittered"),
    "data.subset": ("replicate", "fixed"),
    **{f"model.{key}": (2, 4) for key in ("layers", "width", "heads", "ffn_width", "head_dim", "kv_heads")},
    "model.tie_embeddings": (True, False),
    "model.dtype": ("float32", "mixed_bfloat16"),
    "factors.order": ("any", "fixed:4"),
    "factors.compute": ("causal", "dense"),
    "factors.draws": ("inf", 4),
    "factors.estimator": ("counted", "bernoulli"),
    "training.batch_size": (32, 64),
    **{f"training.total_{unit}": (3, 4) for unit in ("epochs", "tokens", "steps")},
    "training.schedule": ("wsd", "cosine"),
    "training.warmup_steps": (0, 5),
    **{
        f"training.{key}": (0.1, 0.2)
        for key in (
            *("learning_rate", "decay_share", "final_learning_rate_share", "weight_decay"),
            *("beta_1", "beta_2", "epsilon", "clip_norm"),
        )
    },
}


def with_value(config, key, value):
    """A configuration with another value, which need not fit the others."""
    section, _, name = key.rpartition(".")
    if not section:
        return config.model_copy(update={name: value})
    changed = getattr(config, section).model_copy(update={name: value})
    return config.model_copy(update={section: changed})


def keyed_with(key, value):
    return with_value(make_config(BASE), key, value).keyed_values()


def test_every_field_has_decided_whether_it_is_in_the_key():
    fields = {
        f"{section}.{key}"
        for section in ("data", "model", "factors", "training")
        for key in RunConfig.model_fields[section].annotation.model_fields
    }
    fields.add("member")
    assert fields == UNKEYED | NEUTRAL.keys() | KEYED.keys()
    assert len(fields) == len(UNKEYED) + len(NEUTRAL) + len(KEYED)


@pytest.mark.parametrize("key", KEYED)
def test_another_value_is_another_run(key):
    one, other = KEYED[key]
    assert keyed_with(key, one)[key] == one
    assert keyed_with(key, other) == {**keyed_with(key, one), key: other}


@pytest.mark.parametrize("key", NEUTRAL)
def test_a_neutral_value_is_as_if_the_field_were_not_there(key):
    neutral, other = NEUTRAL[key]
    plain = make_config(BASE).keyed_values()
    assert key not in plain
    assert keyed_with(key, neutral) == plain
    assert keyed_with(key, other) == {**plain, key: other}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arm", "another"),
        ("data.corpus", "text"),
        ("data.paths", ("moved.txt",)),
        ("data.text_field", "body"),
        ("data.quality_field", "stars"),
        ("data.document_characters", 500),
        ("data.functions", 500),
        ("data.tokenizer", "bpe:300"),
        ("data.validation_share", 0.2),
        ("data.test_share", 0.2),
        ("model.size", "3m"),
        ("training.log_steps", 7),
        ("training.checkpoint_steps", 7),
        ("training.parallel", "data"),
        ("training.model_parallel", 2),
        ("training.kept_megabytes", 0.0),
        *((f"evaluation.{key}", 99) for key in EvaluationConfig.model_fields),
        *((f"inference.{key}", 99) for key in InferenceConfig.model_fields),
        ("tasks.files", ("a.jsonl",)),
        ("tasks.form", "mmlu"),
    ],
)
def test_what_the_weights_do_not_depend_on_is_not_in_the_key(key, value):
    assert keyed_with(key, value) == make_config(BASE).keyed_values()


def test_members_of_a_replicate_share_its_text_and_train_by_other_seeds():
    def of(seed, member, subset="replicate"):
        return make_config(BASE, {"seed": seed, "member": member, "data": {"subset": subset}})

    assert [of(seed, 0).training_seed for seed in (0, 7, 2**31 - 1)] == [0, 7, 2**31 - 1]
    seeds = [of(seed, member).training_seed for seed in range(30) for member in range(30)]
    assert len(set(seeds)) == 900
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert of(7, 3).training_seed == of(7, 3).training_seed != of(8, 3).training_seed
    assert (of(7, 0).replicate, of(7, 3).replicate) == (7, 7)
    assert {of(7, 3, "fixed").replicate, of(8, 0, "fixed").replicate} == {0}
    assert of(7, 3, "fixed").training_seed == of(7, 3).training_seed


def test_weights_that_are_not_drawn_are_not_perturbed():
    with pytest.raises(ValueError, match=r"`perturbation` must be 0 with start_from, .* perturbation=0\.5\."):
        make_config(BASE, {"training": {"perturbation": 0.5, "start_from": "ar"}})


def test_the_model_is_one_architecture():
    model = {"size": "0.1m", "loops": 2, "kv_heads": 1, "norm_gain": True, "target_embedding": False}
    config = make_config(BASE, {"model": model, "factors": {"compute": "dense", "order": "any"}})
    changes = {name: value for name, value in model.items() if name != "size"}
    expected = Architecture(vocab_size=257, length=64, **SIZES["0.1m"], **changes)
    assert config.model.architecture(257, 64) == expected


def test_a_seed_is_another_run_and_spelling_is_not():
    assert keyed_with("seed", 1) == {**make_config(BASE).keyed_values(), "seed": 1}
    spelled = make_config({"training": {"total_tokens": 1000.0, "clip_norm": 1}, "seed": 0})
    assert spelled.keyed_values() == make_config(BASE).keyed_values()
    sized = make_config(BASE, {"model": {"size": "3m"}})
    parts = make_config(BASE, {"model": dict(SIZES["3m"])})
    assert sized.keyed_values() == parts.keyed_values() != make_config(BASE).keyed_values()


def test_a_version_names_the_keys_that_differ_with_both_values():
    old, new = make_config(BASE), make_config(BASE, {"model": {"width": 256, "loops": 2}, "seed": 3})
    versions = [Version.of(config, "data", "jax", "code") for config in (old, new)]
    expected = ["model.width (128 became 256)", "seed (0 became 3)", "model.loops (none became 2)"]
    assert sorted(versions[0].differs(versions[1])) == sorted(expected)


# A value of another type -> what is said of it.
MISTYPED = {
    "true for a number": ({"model": {"layers": True}}, "model.layers: expected a whole number, but got true"),
    "yes for a number": (
        {"training": {"total_steps": "yes"}},
        "training.total_steps: expected a whole number, but got 'yes'",
    ),
    "text for a number": ({"training": {"clip_norm": "1"}}, "clip_norm: expected a number, but got '1'"),
    "false for a share": ({"model": {"mlp_dropout": False}}, "mlp_dropout: expected a number, but got false"),
    "text for a budget": ({"data": {"unique_tokens": "9"}}, "expected a whole number, but got '9'"),
    "part of a step": ({"training": {"warmup_steps": 1.5}}, "warmup_steps: .*fractional part, but got 1.5"),
    "a number for true": ({"model": {"tie_embeddings": 1}}, "expected true or false, but got 1"),
    "yes for true": ({"factors": {"complementary": "yes"}}, "expected true or false, but got 'yes'"),
    "text for draws": ({"factors": {"draws": "3"}}, "draws: expected a whole number or inf, but got '3'"),
    "true for draws": ({"factors": {"draws": True}}, "draws: expected a whole number or inf, but got true"),
    "true in a list": ({"inference": {"draws": [1, True]}}, "expected a whole number, but got true"),
    "a number for a name": ({"arm": 3}, "arm: Input should be a valid string, but got 3"),
    "true for a section": ({"model": True}, "model: Input should be a valid dictionary.*but got True"),
}


@pytest.mark.parametrize(("layer", "message"), MISTYPED.values(), ids=MISTYPED)
def test_a_value_of_another_type_is_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        make_config({"training": {"total_tokens": 1000}}, layer)


def numeric_keys(model=RunConfig, prefix=""):
    """The dotted keys of all numbers that a run's configuration has, `more` tasks excepted."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, lab.config.Section):
            yield from numeric_keys(field.annotation, f"{prefix}{name}.")
        elif {int, float} & set(lab.config._kinds(field.annotation)):
            yield f"{prefix}{name}"


@pytest.mark.parametrize(
    "value", ["nan", "inf", "1e300", "-1e300", "-1", "1" + "0" * 400, "3x", "0x10", "[1]"]
)
def test_no_number_takes_what_is_none_or_beyond_all_meaning(value):
    keys = list(numeric_keys())
    assert {"seed", "model.width", "training.total_epochs", "factors.draws", "tasks.shots"} <= set(keys)
    for key in keys:
        if (key, value) == ("factors.draws", "inf"):
            continue
        with pytest.raises(ValueError, match=key.rpartition(".")[2]):
            make_config(BASE, parse_overrides([f"{key}={'.' if value in ('nan', 'inf') else ''}{value}"]))


ENDLESS = {
    "steps": ({"training": {"total_steps": 2**29}}, r"below 536,870,912 steps, .* makes 5\.37e\+08"),
    "tokens": ({"training": {"total_tokens": 2**53}}, r"below 536,870,912 steps, .* makes 4\.4e\+12"),
    "epochs": ({"training": {"total_epochs": 1e15}}, r"below 536,870,912 steps, .* makes 3\.12e\+13"),
    "window": (
        {"data": {"unique_tokens": 63}},
        "`unique_tokens` must fill one window of data.length=64, but got unique_tokens=63",
    ),
    "stops": (
        {"evaluation": {"stops": 55}},
        r"stop_ratio \*\* \(stops - 1\), .* at most 2\*\*53, .*stops=55",
    ),
    "draws": ({"evaluation": {"nelbo_draws": 10**9}}, "nelbo_draws: .*less than or equal to 65536, but got"),
    "passes": ({"factors": {"passes": 10**9}}, "passes: .*less than or equal to 65536"),
    "largest": ({"training": {"patience": 2**53 + 1}}, r"a number of at most 2\*\*53, but got 9\.01e\+15"),
}


@pytest.mark.parametrize(("layer", "message"), ENDLESS.values(), ids=ENDLESS)
def test_what_would_never_end_is_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        make_config(BASE, layer)


def test_what_lies_just_within_the_bounds_is_taken():
    for layer in (
        {"training": {"total_steps": 2**29 - 1}},
        {"data": {"unique_tokens": 64}},
        {"evaluation": {"stops": 54}},
        {"training": {"patience": 2**53}},
    ):
        make_config(BASE, layer)


def test_a_whole_number_is_one_however_it_is_written():
    written = ["1000", "1e3", "1000.0", "1_000"]
    configs = [make_config(parse_overrides([f"training.total_steps={text}"])) for text in written]
    assert {type(config.training.total_steps) for config in configs} == {int}
    assert all(config == configs[0] for config in configs)
    assert make_config(BASE, parse_overrides(["factors.draws=4.0 factors.order=any"])).factors.draws == 4
    assert make_config(BASE, {"inference": {"draws": [2.0]}}).inference.draws == (2,)


# YAML 1.2: what is a number or a word, and what is not.
SCALARS = {
    **{"1e3": 1000.0, "1E-3": 0.001, "1_000": 1000, "-3": -3, "+4": 4, ".5": 0.5, "1.": 1.0, "0": 0},
    **{"true": True, "FALSE": False, "null": None, "~": None, "": None, "-.inf": -math.inf},
    **{
        text: text
        for text in (
            *("yes", "no", "on", "Off", "010", "-08", "0x10", "0o7", "12:30", "1:2:3", "2024-01-01"),
            *("1e", "e3", "1.2.3", "_1", "inf", "nan", "tRUE", "n"),
        )
    },
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_is_what_yaml_1_2_says(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {text}\n", encoding="utf-8")
    for found in (read_yaml(path)["a"], parse_overrides([f"a={text}"])["a"]):
        assert found == SCALARS[text]
        assert type(found) is type(SCALARS[text])


@pytest.mark.parametrize("text", [*SCALARS, "it's", '"', "a: b", "# c", "- d", "Ä\n\t", " "])
def test_a_text_is_written_so_that_it_comes_back_as_text(tmp_path, text):
    config = make_config(BASE, {"data": {"corpus": "text", "paths": [text], "text_field": text}})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config
    if text.strip():
        assert yaml.safe_load(config.to_yaml())["data"]["text_field"] == text  # for older readers too


def test_overrides_are_read_as_people_mean_them():
    read = parse_overrides(
        ["training.learning_rate=1e-3 training.total_tokens=2E6", "model.tie_embeddings=false"]
    )
    assert read == {
        "training": {"learning_rate": 0.001, "total_tokens": 2_000_000},
        "model": {"tie_embeddings": False},
    }
    assert parse_overrides(["a=left_to_right b=fixed:4 c= d=null e=1e f=true"]) == {
        "a": "left_to_right",
        "b": "fixed:4",
        "c": None,
        "d": None,
        "e": "1e",
        "f": True,
    }


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["width"], "must look like model.width=256, but got 'width'"),
        (["=3"], "must look like model.width=256, but got '=3'"),
        (["a=1", "a=2"], "the override 'a' is given twice"),
        (["a.b=1 a=2"], "the override 'a' would hide 'a.b'"),
        (["a=[1"], r"value must be YAML, but got 'a=\[1'"),
    ],
)
def test_overrides_refuse(assignments, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(assignments)


def test_nest_and_merge():
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(base, {"a": {"b": 9}, "d": {"e": 1}}) == {"a": {"b": 9, "c": 2}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "the key 'a' is given twice, at line 2"),
        ("a:\n  b: 1\n  b: 2\n", "the key 'b' is given twice, at line 3"),
        ("3: 1\n", "a key must be text, but got 3, at line 1"),
        ("? [a]\n: 1\n", r"a key must be text, but got \['a'\], at line 1"),
        ("- 1\n", "expected a mapping of keys to values, but got list"),
        ("", "expected a mapping of keys to values, but got NoneType"),
        ("a: [", "while parsing a flow node"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_read_yaml_refuses(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s)x\.yaml: .*{message}"):
        read_yaml(path)


def test_read_yaml_refuses_what_is_not_there_and_not_text(tmp_path):
    with pytest.raises(ValueError, match=r"expected a YAML file at .*none\.yaml, but there is none"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"x\.yaml: .*can't decode"):
        read_yaml(tmp_path / "x.yaml")


@pytest.fixture
def presets(tmp_path, monkeypatch):
    """A folder of presets with `tiny.yaml` in it, beside the working folder."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    monkeypatch.setattr(lab.config, "PRESETS_DIR", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_presets_have_names(presets):
    assert preset_names() == ["tiny"]
    assert read_preset("tiny") == BASE
    assert preset_name("tiny") == "tiny"


@pytest.mark.parametrize("name", ["../tiny", "huge", "tiny.yml", "", "*"])
def test_unknown_presets_list_those_that_exist(presets, name):
    expected = f"`preset` must be one of ['tiny'] or a .yaml file, but got preset={name!r}."
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_preset(name)


def test_a_preset_may_be_a_file_anywhere(presets):
    (presets / "my_own.yaml").write_text("training:\n  total_steps: 5\n", encoding="utf-8")
    assert preset_name("my_own.yaml") == "my-own"
    assert read_preset("my_own.yaml") == {"training": {"total_steps": 5}}
    assert read_preset("configs/tiny.yaml") == BASE


def test_a_file_lies_over_its_base(presets):
    folder = presets / "more"
    folder.mkdir()
    first = "base: tiny\ndata:\n  length: 32\ntraining:\n  total_epochs: 2\n  clip_norm: 3.0\n"
    (folder / "first.yaml").write_text(first, encoding="utf-8")
    (presets / "second.yaml").write_text(
        "base: more/first.yaml\ntraining:\n  clip_norm: 2.0\n", encoding="utf-8"
    )
    assert list(preset_layers("second.yaml")) == ["tiny", "first", "second"]
    assert read_preset("second.yaml") == {
        "data": {"length": 32},
        "training": {"total_epochs": 2, "clip_norm": 2.0},
    }
    (folder / "third.yaml").write_text("base: ../second.yaml\n", encoding="utf-8")
    assert read_preset("more/third.yaml") == read_preset("second.yaml")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "none.yaml",
            None,
            "`preset` must be one of ['tiny'] or a .yaml file, but there is no file none.yaml.",
        ),
        (
            "tiny.yaml",
            "seed: 1",
            "`preset` must be one of ['tiny'] or a .yaml file of another name than these",
        ),
        (
            "a b.yaml",
            "seed: 1",
            "or a .yaml file named in letters, digits and dashes, but got preset='a b.yaml'.",
        ),
        (
            "x.yaml",
            "base: huge",
            "`base` of x.yaml must be one of ['tiny'] or a .yaml file, but got base='huge'.",
        ),
        ("x.yaml", "base:", "`base` of x.yaml must be one of ['tiny'] or a .yaml file, but got base='None'."),
        (
            "x.yaml",
            "base: y.yaml",
            "`base` of x.yaml must be one of ['tiny'] or a .yaml file, but there is no file",
        ),
        ("x.yaml", "base: x.yaml", "`base` of x.yaml must have another name than x, but got base='x.yaml'."),
        ("x.yaml", "base: [tiny]", "but got base=\"['tiny']\"."),
        ("x.yaml", "- base", "x.yaml: expected a mapping of keys to values, but got list."),
    ],
)
def test_a_preset_that_cannot_be_read_says_why(presets, name, text, problem):
    if text is not None:
        (presets / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_preset(name)


def test_a_file_checks_its_values_like_any_layer(presets):
    (presets / "x.yaml").write_text("base: tiny\nmodel:\n  wdth: 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.wdth: no such key"):
        make_config(read_preset("x.yaml"))


def test_what_comes_with_the_lab_lies_inside_it_or_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "lab"
    (package / "configs").mkdir(parents=True)
    (tmp_path / "site" / "configs").mkdir()  # of another package
    monkeypatch.setattr(lab.config, "__file__", str(package / "config.py"))
    assert lab.config.shipped_folder("configs") == package / "configs"
    assert lab.config.shipped_folder("ablations") == tmp_path / "site" / "ablations"


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("path", sorted(PRESETS_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_fits_every_arm(path, arm):
    config = make_config(read_preset(path.stem), arm_values(arm))
    assert isinstance(config, RunConfig)
    assert config.arm == arm


def test_unknown_arm_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"`arm` must be one of \['any_order_ar'.*but got arm='gpt'"):
        arm_values("gpt")


def test_arms_are_distinct_corners():
    corners = {make_config(BASE, {"factors": factors}).factors for factors in ARMS.values()}
    assert len(corners) == len(ARMS)


def test_inference_settings_are_checked():
    training = {"total_steps": 1}
    config = make_config({"inference": {"samplers": ["blocks:16"], "draws": [2]}, "training": training})
    assert config.inference.samplers == ("blocks:16",)
    for wrong, message in (
        ({"samplers": ["greedy"]}, r"inference.samplers.0: String should match pattern .* but got 'greedy'"),
        ({"samplers": ["blocks:3000000000"]}, r"samplers.0: String should match .* but got 'blocks:30"),
        ({"draws": [4, 0]}, r"inference.draws.1: Input should be greater than 0, but got 0"),
        ({"temperatures": [1, 0]}, r"inference.temperatures.1: Input should be greater than 0, but got 0"),
        ({"temperatures": [0.5, 1, 1.0]}, r"inference.temperatures: .*must not repeat one, but got \[0.5, 1"),
        ({"prompt_share": 1.0}, r"inference.prompt_share: Input should be less than 1, but got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_config({"inference": wrong, "training": training})


def test_tasks_are_the_first_and_those_beside_it():
    more = {"form": "blimp", "files": ["b.jsonl"], "name": "pairs", "questions": 5}
    tasks = make_config(BASE, {"tasks": {"files": ["a.jsonl"], "draws": 4, "more": [more]}}).tasks
    assert [task.settings for task in tasks.tasks] == [
        {"form": "choice"},
        {"name": "pairs", "form": "blimp", "questions": 5},
    ]
    assert tasks.find({"form": "choice", "num_draws": 4, "read_as": "causal"}).files == ("a.jsonl",)
    assert tasks.find(tasks.more[0].settings) == tasks.more[0]
    assert make_config(BASE).tasks.tasks == ()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"form": "piqa"}, r"tasks\.form: Input should be 'hellaswag', 'mmlu', .* but got 'piqa'"),
        ({"files": "a.jsonl"}, r"tasks\.files: Input should be a valid tuple, but got 'a\.jsonl'"),
        ({"shots": 2}, r"`shots` and `dev_files` must be given together, but got shots=2, dev_files=\[\]\."),
        (
            {"dev_files": ["d"]},
            r"`shots` and `dev_files` must be given together, but got shots=0, dev_files=",
        ),
        (
            {"form": "blimp", "shots": 1, "dev_files": ["d"]},
            r"`shots` must be 0 for form=blimp, but got shots=1",
        ),
        ({"form": "lambada", "shots": 1, "dev_files": ["d"]}, r"`shots` must be 0 for form=lambada, but got"),
        ({"form": "lambada", "draws": 3}, r"`draws` must be 0 for form=lambada, but got draws=3\."),
        ({"questions": -1}, r"tasks\.questions: Input should be greater than or equal to 0, but got -1"),
        (
            {"files": ["a"], "more": [{"form": "mmlu"}]},
            r"`files` must be given for each task where there are",
        ),
        (
            {"more": [{"form": "mmlu", "files": ["a"]}]},
            r"`files` must be given for each task where there are",
        ),
        (
            {"files": ["a"], "more": [{"files": ["b"], "draws": 2}]},
            r"`name` must tell tasks apart that are els",
        ),
        (
            {"more": [{"colour": 1}]},
            r"tasks\.more\.0\.colour: no such key; tasks\.more\.0 has \['dev_files', 'dr",
        ),
        ({"colour": 1}, r"tasks\.colour: no such key; tasks has \['dev_files', .*'more'"),
    ],
)
def test_a_task_that_cannot_be_asked_so_is_refused(tasks, message):
    with pytest.raises(ValueError, match=message):
        make_config(BASE, {"tasks": tasks})
