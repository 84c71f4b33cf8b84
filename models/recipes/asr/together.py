"""What several processes that train one network tell each other; where there is one only, nothing."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def mean_gradients(network: torch.nn.Module) -> None:
    """The mean over all processes, as one vector: every process has the same ones."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not gradients:
        return
    vector = summed(torch.cat([gradient.flatten() for gradient in gradients])) / dist.get_world_size()
    taken = 0
    for gradient in gradients:
        gradient.copy_(vector[taken : taken + gradient.numel()].view_as(gradient))
        taken += gradient.numel()
