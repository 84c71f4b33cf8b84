"""The RNN-T loss (arXiv 1211.3711) in plain torch, for any device: a forward pass over anti-diagonals.

Cells of one anti-diagonal of the lattice depend on the one before it only, so T + U steps of a vector replace T · U
of a number. Gradients are exact, with no kernel to build; a fused loss is faster on a graphics processor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thalweg.models.recipes.asr.corpus.align import Spans

_NEVER = -1e30


def rnnt_loss(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Mean over the batch of −log P(target) / tokens.

    logits: [B, T, U + 1, V]; targets: [B, U]; frames, lengths: [B], how much of T and U is valid.
    """
    stay, move = _Arcs.apply(logits, targets, blank)  # type: ignore[no-untyped-call]
    stays, moves = _anti_diagonals(stay), _anti_diagonals(move)
    alpha = torch.full_like(stays[0], _NEVER)
    alpha[:, 0] = 0.0
    reached = [alpha]
    for stay_from, move_from in zip(stays[:-1], moves[:-1], strict=True):
        moved = torch.nn.functional.pad((alpha + move_from)[:, :-1], (1, 0), value=_NEVER)
        alpha = torch.logaddexp(alpha + stay_from, moved)
        reached.append(alpha)
    every = torch.arange(len(stay), device=logits.device)
    last = torch.stack(reached, dim=1)[every, frames - 1 + lengths, lengths] + stay[every, frames - 1, lengths]
    loss: Tensor = (-last / lengths.clamp(min=1)).mean()
    return loss


class _Arcs(torch.autograd.Function):
    """Log probabilities of the blank and of the next token in every cell, both [B, T, U + 1].

    Of V of them two are used. The gradient is written down, for autograd would fill arrays of the size of the logits
    with noughts for each of the two first: on a processor the loss takes a third as long.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
        log_probs = logits.float().log_softmax(-1)
        b, t, u1, _ = logits.shape
        following = torch.nn.functional.pad(targets, (0, 1), value=blank)[:, None, :, None].expand(b, t, u1, 1)
        move = log_probs.gather(3, following)[..., 0]
        move[:, :, -1] = _NEVER
        ctx.save_for_backward(log_probs, following)
        ctx.blank, ctx.dtype = blank, logits.dtype
        return log_probs[..., blank].clone(), move

    @staticmethod
    def backward(ctx: Any, *of: Tensor) -> tuple[Tensor | None, ...]:
        log_probs, following = ctx.saved_tensors
        stay, move = of[0], of[1].clone()
        move[:, :, -1] = 0.0
        gradient = log_probs.exp().mul_(-(stay + move)[..., None])
        gradient[..., ctx.blank] += stay
        gradient.scatter_add_(3, following, move[..., None])
        return gradient.to(ctx.dtype), None, None


def _anti_diagonals(cells: Tensor) -> tuple[Tensor, ...]:
    """[B, T, U] → T + U − 1 times [B, U]: the n-th holds the cells (n − u, u)."""
    u = cells.shape[2]
    columns = torch.nn.functional.pad(cells.transpose(1, 2), (0, u), value=_NEVER).flatten(1)[:, :-u]
    return columns.view(len(cells), u, -1).unbind(2)  # each column begins one later than the one before it


def aligned_labels(units: list[list[int]], spans: Spans, frames: int, nothing: int) -> list[int]:
    """A unit for each of `frames`; `nothing` where nothing is said.

    units: those of each word, which lasts from which to which frame: `spans`. Within a word they share the time
    evenly; that is not exact, but enough to begin with.
    """
    labels = [nothing] * frames
    for of_word, (begin, end) in zip(units, spans, strict=True):
        for n, unit in enumerate(of_word):
            first, last = (begin + (end - begin) * m // len(of_word) for m in (n, n + 1))
            labels[first:last] = [unit] * (min(last, frames) - min(first, frames))
    return labels
