"""The same training step in plain PyTorch: `scaled_dot_product_attention`, fused AdamW, eager or compiled."""

import contextlib

import numpy as np
import torch
from torch.nn import functional

from benchmarks.sides.case import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Case,
    Updates,
    batches,
)


class Block(torch.nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        d, f = case.width, case.ffn_width
        self.heads, self.causal = case.heads, case.arm == "ar"
        self.qkv = torch.nn.Linear(d, 3 * d, bias=False)
        self.attended = torch.nn.Linear(d, d, bias=False)
        self.gate_up = torch.nn.Linear(d, 2 * f, bias=False)
        self.down = torch.nn.Linear(f, d, bias=False)

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Map (batch, length, width) to the same."""
        batch, length, width = x.shape
        parts = self.qkv(norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        query, key = (rotate(norm(part), cosine, sine) for part in (query, key))
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.attended(attended.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Transformer(torch.nn.Module):
    """The lab's Transformer, its weights in float32."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.tokens = torch.nn.Embedding(case.vocab_size + 1, case.width)
        self.targets = torch.nn.Embedding(case.length, case.width)
        self.blocks = torch.nn.ModuleList(Block(case) for _ in range(case.layers))
        features = case.width // case.heads
        first = 0 if case.arm == "ar" else 1
        frequencies = 10_000.0 ** (-np.arange(0, features, 2) / features)
        angles = torch.tensor(
            np.outer(np.arange(first, first + case.length), frequencies), dtype=torch.float32
        )
        self.register_buffer("cosine", torch.cos(angles))
        self.register_buffer("sine", torch.sin(angles))
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, nats/token."""
        case, mask = self.case, self.case.vocab_size
        if case.arm == "ar":
            read = torch.cat([torch.full_like(tokens[:, :1], mask), tokens[:, :-1]], 1)
        else:
            ranks = torch.rand(tokens.shape, device=tokens.device).argsort(-1)
            hidden = torch.randint(1, case.length + 1, (tokens.shape[0], 1), device=tokens.device)
            is_hidden = ranks < hidden
            read = torch.where(is_hidden, mask, tokens)
        x = self.tokens(read) + self.targets.weight
        for block in self.blocks:
            x = block(x, self.cosine.to(x.dtype), self.sine.to(x.dtype))
        logits = functional.linear(norm(x), self.tokens.weight)[..., :mask]
        losses = functional.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none")
        if case.arm == "ar":
            return losses.mean()
        return (torch.where(is_hidden, losses.view(tokens.shape), 0.0).sum(-1) / hidden[:, 0]).mean()


def norm(x: torch.Tensor) -> torch.Tensor:
    """Root-mean-square normalisation, in float32."""
    return functional.rms_norm(x.float(), (x.shape[-1],), eps=1e-7).to(x.dtype)


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """RoPE of (batch, heads, length, features)."""
    first, second = x.chunk(2, -1)
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def make(case: Case, compiled: bool) -> Updates:
    """Build the model; compiled, forward and backward pass are programs of TorchInductor."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")
    model = Transformer(case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, fused=True)
    forward = torch.compile(model) if compiled else model
    half = case.dtype == "bfloat16"
    made = 0

    def update(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext():
            loss = forward(tokens)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        return loss.detach()

    def updates(count: int) -> None:
        nonlocal made
        loss = None
        for text in batches(case, made, count):
            for tokens in torch.from_numpy(text).long().to(device):
                loss = update(tokens)
        made += count
        loss.item()

    return updates
