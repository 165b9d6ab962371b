"""A divergence over a large vocabulary in tiles, beside the same one from whole logits: time, memory, exactness.

    python benchmarks/lm_loss.py                                        # V 32k and 128k, width 512 and 1024
    python benchmarks/lm_loss.py --tokens 512 --vocabulary 32000        # one corner
    python benchmarks/lm_loss.py --divergence jensen_shannon

Forward and backward of the sum over positions, down to the gradients of hidden states and head; student and teacher
have heads of the same size, fp32. The two sides alternate in one process; times are medians. Memory is the highest
resident set of the process less what it held before, less the gradients of states and head, which both must make: what
is left is what the loss itself takes. Exactness is the error of both gradients against fp64 on the first 64 positions.
Linux only.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from understudy import objectives as match
from understudy.objectives.tiles import in_tiles

FEW = 64  # positions of the comparison with fp64
Side = Callable[[], list[Tensor]]


def sides(tokens: int, vocabulary: int, width: int, name: str) -> tuple[Side, Side, int]:
    """The dense and the tiled side, each giving the gradients of states and head, and the bytes of these."""
    random = torch.Generator().manual_seed(0)
    states, theirs = (torch.randn(tokens, width, generator=random) for _ in range(2))
    head, second = (torch.randn(vocabulary, width, generator=random) / width**0.5 for _ in range(2))
    leaves = [states.requires_grad_(), head.requires_grad_()]
    value = getattr(match, name)
    in_place = partial(value, spent=True) if name == "forward_kl" else value  # as soft_tokens asks for it

    def dense() -> list[Tensor]:
        return list(torch.autograd.grad(value(states @ head.T, theirs @ second.T).sum(), leaves))

    def tiled() -> list[Tensor]:
        return list(torch.autograd.grad(in_tiles(in_place, states, head, against=(theirs, second)).sum(), leaves))

    return dense, tiled, 4 * (states.numel() + head.numel())


def peak(side: Side) -> int:
    """Bytes that the process held at most, less what it held before."""
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident set begins anew
    side()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def seconds(side: Side) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def error(vocabulary: int, width: int, name: str) -> float:
    """The largest relative error of the two gradients against fp64."""
    random = torch.Generator().manual_seed(1)
    states, theirs = (torch.randn(FEW, width, generator=random) for _ in range(2))
    head, second = (torch.randn(vocabulary, width, generator=random) / width**0.5 for _ in range(2))
    value = getattr(match, name)
    exact = [one.double().requires_grad_() for one in (states, head)]
    wanted = torch.autograd.grad(value(exact[0] @ exact[1].T, theirs.double() @ second.double().T).sum(), exact)
    mine = [one.requires_grad_() for one in (states, head)]
    said = torch.autograd.grad(in_tiles(value, *mine, against=(theirs, second)).sum(), mine)
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(said, wanted, strict=True))


def main() -> None:
    """One line for every shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="*", default=[512, 2048, 4096])
    parser.add_argument("--vocabulary", type=int, nargs="*", default=[32_000, 128_000])
    parser.add_argument("--width", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--divergence", default="forward_kl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    said = parser.parse_args()
    torch.set_num_threads(said.threads)
    print(f"{said.divergence}, fp32, {said.threads} threads, torch {torch.__version__}\n")
    print("| V | width | tokens | dense MB | tiled MB | memory | dense s | tiled s | time | gradient error |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for vocabulary in said.vocabulary:
        for width in said.width:
            wrong = error(vocabulary, width, said.divergence)
            for tokens in said.tokens:
                dense, tiled, own = sides(tokens, vocabulary, width, said.divergence)
                tiled(), dense()  # neither is the first to touch anything
                memory = [peak(side) - own for side in (dense, tiled)]
                times = [(seconds(dense), seconds(tiled)) for _ in range(said.rounds)]
                ratio = statistics.median(ours / theirs for theirs, ours in times)
                slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
                print(
                    f"| {vocabulary:,} | {width:,} | {tokens:,} | {memory[0] / 1e6:,.0f} | {memory[1] / 1e6:,.0f} "
                    f"| {memory[1] / memory[0]:.3f} | {slow:.2f} | {fast:.2f} | {ratio:.2f}x | {wrong:.1e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
