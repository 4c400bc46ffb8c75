"""Attention in one kernel: where it is asked for, what it computes, and that cuDNN's is in the program."""

import re
from collections import Counter

import keras
import numpy as np
import pytest
from namespaces import host
from tiny import BATCH, LAYERS, LENGTH, VOCAB, example_of, random_tokens, tiny_transformer

from lab.models import attention

CAUSAL = pytest.mark.parametrize("causal", [True, False], ids=["causal", "dense"])
BACKEND = keras.backend.backend()
ON_JAX = pytest.mark.skipif(BACKEND != "jax", reason="cuDNN's attention is asked for under JAX alone")
# Of windows and heads that cuDNN has kernels for.
LARGE = {"length": 64, "width": 128, "ffn_width": 16}
FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


@pytest.mark.parametrize("device", ["cpu:0", "gpu:0", "tpu:0"])
@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_one_kernel_is_used_on_accelerators_and_under_pytorch(backend, device, monkeypatch):
    monkeypatch.setattr(attention, "_device", lambda: device)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    assert attention.has_fused_attention() == (backend == "torch" or device != "cpu:0")
    for dtype in ("float32", "bfloat16", "float16"):
        wanted = (backend, device) == ("jax", "gpu:0") and dtype != "float32"
        assert attention.needs_flash_attention(dtype) == wanted


@CAUSAL
@pytest.mark.parametrize(("dtype", "flash"), [("float32", None), ("bfloat16", True)])
def test_cudnns_kernel_is_demanded_where_it_is_needed(dtype, flash, causal, monkeypatch):
    if BACKEND == "jax":
        monkeypatch.setattr(attention, "_device", lambda: "gpu:0")
    asked = []
    monkeypatch.setattr(attention.ops, "dot_product_attention", lambda *parts, **named: asked.append(named))
    part = keras.ops.zeros((1, LENGTH, 2, 8), dtype)
    attention._fused(part, part, part, None, causal)
    assert asked == [{"is_causal": causal, "flash_attention": flash if BACKEND == "jax" else None}]


@pytest.mark.backend
@pytest.mark.parametrize("kv_heads", [None, 1])
@pytest.mark.parametrize("hidden", [False, True], ids=["all visible", "some hidden"])
@CAUSAL
def test_one_kernel_computes_what_is_written_out(causal, hidden, kv_heads, monkeypatch):
    model = tiny_transformer(kv_heads=kv_heads)
    visible = np.random.default_rng(1).random((BATCH, LENGTH)) < 0.5 if hidden else None
    found = {}
    for fused in (True, False):
        monkeypatch.setattr(attention, "has_fused_attention", lambda fused=fused: fused)
        found[fused] = host(model(example(random_tokens(), visible), causal=causal))
    assert found[False].std() > 1
    np.testing.assert_allclose(found[True], found[False], rtol=1e-5, atol=1e-5)


def example(tokens, visible=None):
    places = np.arange(tokens.shape[1], dtype=np.int32)[None]
    return example_of(tokens, places, places + np.int32(1), visible)


def passes(dtype, causal):
    """A forward and a training pass, as functions of the weights, and the weights."""
    import jax

    model = tiny_transformer(dtype=dtype, **LARGE)
    others = [variable.value for variable in model.non_trainable_variables]
    tokens = np.random.default_rng(0).integers(0, VOCAB, (BATCH, LARGE["length"])).astype(np.int32)

    def mean_square(weights):
        logits, _ = model.stateless_call(weights, others, example(tokens), causal=causal, training=True)
        return (logits**2).mean()

    weights = [variable.value for variable in model.trainable_variables]
    return jax.jit(mean_square), jax.jit(jax.grad(mean_square)), weights


def kernels(program):
    return Counter(re.findall(r"__cudnn\$fmha\w+", program))


@pytest.fixture
def pretended_gpu(monkeypatch):
    """An NVIDIA GPU that programs can be written for, though none be here to compile them."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(attention, "_device", lambda: "gpu:0")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: False)


@ON_JAX
@CAUSAL
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float32"])
def test_a_program_for_cuda_has_cudnns_kernel_in_half_precision_alone(dtype, causal, pretended_gpu):
    forward, training, weights = passes(dtype, causal)
    written = [
        compiled.trace(weights).lower(lowering_platforms=("cuda",)).as_text()
        for compiled in (forward, training)
    ]
    half = dtype != "float32"
    assert kernels(written[0]) == ({FORWARD: LAYERS} if half else {})
    assert kernels(written[1]) == ({FORWARD: LAYERS, BACKWARD: LAYERS} if half else {})
    masks = set(re.findall("NO_MASK|PADDING|CAUSAL", "".join(written)))
    assert masks == ({"CAUSAL" if causal else "NO_MASK"} if half else set())  # and no mask in memory


@pytest.fixture
def gpu():
    if BACKEND != "jax" or not attention._device().startswith("gpu"):
        pytest.skip("needs an NVIDIA GPU, under JAX")


@CAUSAL
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float32"])
def test_on_a_gpu_the_compiled_program_has_cudnns_kernel(dtype, causal, gpu):
    forward, training, weights = passes(dtype, causal)
    compiled = [each.lower(weights).compile().as_text() for each in (forward, training)]
    half = dtype != "float32"
    assert kernels(compiled[0]).keys() == ({FORWARD} if half else set())
    assert kernels(compiled[1]).keys() == ({FORWARD, BACKWARD} if half else set())


@CAUSAL
def test_on_a_gpu_cudnns_kernel_computes_what_is_written_out(causal, gpu):
    parts = np.random.default_rng(0).normal(size=(3, BATCH, 64, 2, 64)).astype("float32")
    half = [keras.ops.cast(part, "bfloat16") for part in parts]
    found = host(keras.ops.cast(attention._fused(*half, None, causal), "float32"))
    whole = (keras.ops.cast(part, "float32") for part in half)
    expected = host(attention._written_out(*whole, attention._mask(64, None, causal), None))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.03)  # of some 4 at most, in 8 bits
