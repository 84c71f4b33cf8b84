"""The RNN-T loss (arXiv 1211.3711) in plain torch, for any device: a forward pass over anti-diagonals.

Cells of one anti-diagonal of the lattice depend on the one before it only, so T + U steps of a vector replace T · U
of a number. Gradients come from autograd, exact and with no kernel to build; a fused loss is several times faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thalweg.models.recipes.asr.align import Spans

_NEVER = -1e30


def rnnt_loss(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Mean over the batch of −log P(target) / tokens.

    logits: [B, T, U + 1, V]; targets: [B, U]; frames, lengths: [B], how much of T and U is valid.
    """
    log_probs = logits.float().log_softmax(-1)
    b, t, u1, _ = log_probs.shape
    stay = log_probs[..., blank]  # [B, T, U + 1]
    wanted = targets[:, None, :, None].expand(b, t, u1 - 1, 1)
    move = log_probs[:, :, :-1].gather(3, wanted)[..., 0]  # [B, T, U]
    move = torch.nn.functional.pad(move, (0, 1), value=_NEVER)
    # diagonal n holds the cells (n − u, u)
    n_steps = t + u1 - 1
    u = torch.arange(u1, device=logits.device)
    alpha = torch.full((b, u1), _NEVER, device=logits.device)
    alpha[:, 0] = 0.0
    reached = [alpha]
    for n in range(1, n_steps):
        row = n - u  # the time of each cell
        before_stay = torch.where((row >= 1) & (row <= t), _at(stay, row - 1, u), _NEVER) + alpha
        left = torch.nn.functional.pad(alpha[:, :-1], (1, 0), value=_NEVER)
        from_move = torch.nn.functional.pad(
            torch.where((row[1:] >= 0) & (row[1:] < t), _at(move, row[1:], u[:-1]), _NEVER), (1, 0), value=_NEVER
        )
        alpha = torch.logaddexp(before_stay, from_move + left)
        alpha = torch.where((row >= 0) & (row < t), alpha, _NEVER)
        reached.append(alpha)
    lattice = torch.stack(reached, dim=1)  # [B, T + U, U + 1]
    every = torch.arange(b, device=logits.device)
    last = lattice[every, frames - 1 + lengths, lengths] + stay[every, frames - 1, lengths]
    return (-last / lengths.clamp(min=1)).mean()


def _at(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return values[:, rows.clamp(0, values.shape[1] - 1), columns]


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
