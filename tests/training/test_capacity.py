"""What a run asks of a mesh, against arithmetic by hand."""

import re
import subprocess
import sys

import pytest

from lab.arms import arm_values
from lab.config import lay, make_config, read_preset
from lab.training.capacity import _divisors, describe, plan_capacity, require_memory
from lab.training.devices import DEVICES, Device, find_device

PAPER = [
    ("paper_1b", 256, 1),
    ("paper_1b_480", 256, 1),
    ("paper_2b", 256, 1),
    ("paper_8b", 256, 4),
    ("paper_moe_8b1a", 256, 2),
]


def values(preset="paper_1b", *layers):
    return lay(read_preset(preset), arm_values("dlm"), *layers)


def training(**settings):
    return {"training": settings}


@pytest.mark.parametrize(("preset", "devices", "parts"), PAPER)
def test_the_papers_runs_fit_256_devices(preset, devices, parts):
    capacity = plan_capacity(values(preset), devices, DEVICES["h100"])
    assert (capacity.data, capacity.config.training.model_parallel) == (devices // parts, parts)
    assert describe(capacity, 0.4)


def test_the_1b_run_by_hand():
    capacity = plan_capacity(values(), 256, DEVICES["h100"])
    block = 4 * 1792 * 1792 + 3 * 1792 * 4736
    gains = 26 * (2 * 1792 + 2 * 128) + 1792
    embeddings = (50258 + 2048) * 1792  # a row for the mask, and where a slot predicts
    total = 26 * block + gains + embeddings
    assert capacity.parameters == (total, total)
    kept, again = capacity.memory(False), capacity.memory(True)
    assert kept[:4] == (4 * total, 2 * total, 4 * total, 8 * total)
    assert again.copies == 2 * (total - 25 * block)
    features = 4 * 1792 + 4 * 1792 + 2 * 2 * 1792 + 5 * 4736  # norms; q, k, v, attended; q, k twice; SwiGLU
    inside, end = 2 * features + 4 * 14, 2 * 2 * 1792 + 8 * 50257
    assert kept.activations == 2048 * (26 * inside + end)
    assert again.activations == 2048 * (26 * 2 * 1792 + max(inside, end))
    steps = 183_105
    timeline = capacity.timeline()
    assert timeline.total_steps == round(96e9 / (256 * 2048)) == steps
    flops = 3 * (26 * (2 * block + 4 * 1792 * 2048) + 2 * 1792 * 50257)
    assert capacity.flops_per_token == pytest.approx(flops)
    tokens = timeline.work * 256 * 2048
    assert capacity.seconds(0.4) == pytest.approx(flops * tokens / (256 * 989e12 * 0.4))


def test_what_is_kept_besides():
    """Accumulated gradients, an average of the weights, the sum over passes: four bytes a parameter each."""
    plain = plan_capacity(values(), 64, DEVICES["h200"]).memory(False)
    weights = plain.weights
    layer = {"factors": {"passes": 2}, **training(accumulation=2, ema=0.999)}
    found = plan_capacity(values("paper_1b", layer), 64, DEVICES["h200"]).memory(False)
    assert found.optimizer == plain.optimizer + 2 * weights
    assert found.gradients == 2 * plain.gradients
    assert found.activations == plain.activations // 2


def test_parts_of_the_weights_halve_them_and_what_lies_between():
    whole = plan_capacity(values(), 64, DEVICES["h200"]).memory(False)
    half = plan_capacity(values(), 128, DEVICES["h200"], model_parallel=2).memory(False)
    for name in ("weights", "copies", "gradients", "optimizer"):
        assert getattr(half, name) == pytest.approx(getattr(whole, name) / 2, abs=8)
    assert whole.activations / 2 < half.activations < whole.activations


def test_to_compute_again_costs_a_third_more():
    kept, again = (
        plan_capacity(values("paper_1b", training(rematerialise=each)), 256, DEVICES["h100"])
        for each in (False, True)
    )
    assert again.seconds(0.4) == pytest.approx(4 / 3 * kept.seconds(0.4))


def test_attention_that_is_written_out_keeps_its_weights():
    fused = plan_capacity(values(), 256, DEVICES["h100"]).memory(False)
    dropout = values("paper_1b", {"model": {"attention_dropout": 0.1}})
    written_out = plan_capacity(dropout, 256, DEVICES["h200"]).memory(False)
    dropped = 14 * 2048 * (2 + 8)  # two words a weight, and the weights that are left
    assert written_out.activations - fused.activations == pytest.approx(
        2048 * 26 * (14 * 2048 * (2 + 8) - 4 * 14 + dropped) + 2048 * 14 * 2048 * 8
    )
    cpu = find_device("cpu", teraflops=1, gigabytes=1000)
    undropped = plan_capacity(values(), 256, cpu).memory(False).activations
    assert undropped == written_out.activations - 2048 * 26 * dropped


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_blocks_double_the_stream_of_the_rows_that_have_them(share):
    """And what each slot attends to; the logits are those of one slot a token."""
    layer = {"factors": {"ar_share": share}, **training(batch_size=512)}
    plain, blocks = (
        plan_capacity(values("paper_1b", layer, {"factors": {"block": block}}), 256, DEVICES["h200"])
        for block in ("window", 16)
    )
    assert blocks.rows == 2
    end = 2 * 2 * 1792 + 8 * 50257
    single = plain.memory(False).activations
    doubled = 2 * single - 2 * 2048 * end  # a fused kernel keeps nothing of what it attends to
    assert blocks.memory(False).activations == share * single + (1 - share) * doubled


def test_features_that_are_dropped_keep_their_words():
    dropout = values("paper_1b", {"model": {"mlp_dropout": 0.1}})
    plain, dropped = (plan_capacity(each, 256, DEVICES["h200"]).memory(False) for each in (values(), dropout))
    assert dropped.activations - plain.activations == 2048 * 26 * 4736 * 8


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"devices": 0}, "`devices` must be at least 1, but got devices=0."),
        ({"devices": 8, "model_parallel": 3}, "`model_parallel` must divide the 8 devices"),
        ({"devices": 8, "model_parallel": 0}, "`model_parallel` must divide the 8 devices"),
        (
            {"devices": 8, "model_parallel": 4},
            "`model_parallel` must divide heads, kv_heads, width and ffn_width, but got model_parallel=4",
        ),
        (
            {"devices": 7},
            "must be a multiple of the 7 parts of the data axis (7 devices, model_parallel=1), but got 256.",
        ),
        (
            {"values": values("paper_1b", {"data": {"tokenizer": "gpt2_base_en"}})},
            "--vocab-size must be given for a tokenizer other than bytes and bpe:N, but got tokenizer='gpt2",
        ),
        (
            {"devices": 8},
            "each device must hold 200.5 GB, but 90% of its memory are 72.0 GB; it would fit with "
            "training.accumulation=4.",
        ),
        (
            {"devices": 256, "device": DEVICES["tpu-v5e"]},
            "it would fit with training.model_parallel=2, training.rematerialise=true.",
        ),
        ({"devices": 2, "device": Device(1e12, 1e9)}, "nothing makes it fit 2 of these devices."),
    ],
)
def test_a_mesh_that_cannot_take_the_run_is_refused(arguments, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        plan_capacity(**{"values": values(), "devices": 256, "device": DEVICES["h100"], **arguments})


def test_what_is_said_to_fit_fits():
    small = Device(1e12, 48e9)
    with pytest.raises(ValueError, match="it would fit with ") as refused:
        plan_capacity(values("paper_4b"), 256, small)
    settings = re.findall(r"training\.(\w+)=(\w+)", str(refused.value))
    found = {name: {"true": True}.get(value) or int(value) for name, value in settings}
    assert plan_capacity(values("paper_4b", training(**{"parallel": "model", **found})), 256, small).fits


def test_epochs_need_a_number_of_unique_tokens():
    capacity = plan_capacity(values("paper_1b", training(total_epochs=2)), 256, DEVICES["h100"])
    assert capacity.timeline().total_steps == round(2 * (10**9 // 2048) / 256)
    config = values("smoke", training(total_epochs=2), {"data": {"unique_tokens": None}})
    with pytest.raises(ValueError, match=r"`data.unique_tokens` must be given for a run of total_epochs"):
        describe(plan_capacity(config, 1, DEVICES["h100"]), 0.4)


@pytest.mark.parametrize("mfu", [0, 1.5])
def test_a_share_of_the_peak_is_one(mfu):
    with pytest.raises(ValueError, match=rf"`mfu` must be in \(0, 1\], but got mfu={mfu}"):
        describe(plan_capacity(values(), 256, DEVICES["h100"]), mfu)


def test_devices_are_known_or_given():
    assert find_device("h100") == DEVICES["h100"]
    assert find_device("h100", gigabytes=94) == Device(989e12, 94e9)
    assert find_device("b200", 2250, 180) == Device(2250e12, 180e9)
    for unknown in (("cpu",), ("b200", 1), ("b200", None, 1)):
        with pytest.raises(ValueError, match=r"`device` must be one of \['a100', .* but got device="):
            find_device(*unknown)
    with pytest.raises(ValueError, match=r"`peak` must be above 0, but got peak=0"):
        find_device("h100", 0)
    with pytest.raises(ValueError, match=r"`memory` must be above 0, but got memory=-1"):
        find_device("h100", None, -1)


def test_the_command_prints_a_plan_without_a_backend():
    code = (
        "import sys; from typer.testing import CliRunner; from lab.__main__ import app;"
        "told = CliRunner().invoke(app, ['plan', 'paper-1b', '--devices', '256']);"
        "print(told.exit_code, told.stdout); print(sorted({'jax', 'keras', 'tensorflow'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("0 ")
    assert "1.090 B" in told
    assert told.endswith("[]\n")


def test_the_command_refuses_in_one_line():
    from typer.testing import CliRunner

    from lab.__main__ import app

    told = CliRunner().invoke(app, ["plan", "paper_1b", "--devices", "8"])
    assert told.exit_code == 2
    assert told.output.count("\n") == 1
    assert told.output.startswith("error: each device must hold 200.5 GB")
    assert CliRunner().invoke(app, ["plan", "paper_3b"]).exit_code == 2


LAPTOP = Device(0, 16e9, fused_attention=False)


@pytest.mark.parametrize("preset", ["smoke", "laptop", "night"])
def test_what_runs_on_a_laptop_is_not_refused(preset):
    require_memory(make_config(values(preset)), 1, LAPTOP)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"model": {"width": 10**9}}, r"a model of \d.* parameters .* GB, .*; nothing makes it fit 1"),
        ({"model": {"layers": 10**9}}, "nothing makes it fit 1"),
        ({"model": {"ffn_width": 10**9}}, "nothing makes it fit 1"),
        ({"model": {"loops": 10**9}}, "nothing makes it fit 1"),
        (
            training(batch_size=10**9, total_steps=3),
            "trains on 1,000,000,000 .* would fit with .*accumulat",
        ),
        (
            {"evaluation": {"batch_size": 10**9}},
            "`evaluation.batch_size` must be .* 1,000,000,000 of 64",
        ),
    ],
)
def test_a_run_that_no_memory_holds_is_refused_with_what_it_takes(layer, said):
    with pytest.raises(ValueError, match=f"{said}.*") as caught:
        require_memory(make_config(values("laptop", layer)), 1, LAPTOP)
    assert "more than the 16.0 GB that there are" in str(caught.value)


def test_the_memory_that_a_refusal_names_is_four_numbers_a_parameter_and_the_sequences():
    config = make_config(values("laptop", {"model": {"width": 60_000, "heads": 4, "ffn_width": 8}}))
    with pytest.raises(ValueError, match="parameters") as caught:
        require_memory(config, 1, LAPTOP)
    parameters, total, activations = (
        float(text.replace(",", ""))
        for text in re.search(
            r"of ([\d,]+) parameters .* takes ([\d.,]+) GB, ([\d.,]+) of", str(caught.value)
        ).groups()
    )
    layers = config.model.layers
    assert parameters == layers * (4 * 60_000**2 + 3 * 8 * 60_000) + (257 + 1 + 64) * 60_000
    assert total - activations == pytest.approx(16 * parameters / 1e9, abs=0.11)


def test_divisors_are_all_of_them_from_the_least_on():
    for number in (1, 12, 36, 97, 360):
        for least in (1, 5):
            expected = [one for one in range(least, number + 1) if number % one == 0]
            assert _divisors(number, least) == expected
