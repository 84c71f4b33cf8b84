"""How weights move: Muon for the matrices of the encoder, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scaled as in arXiv 2502.16982, section 2.2, so that
one learning rate serves both) makes every direction of a matrix's step equally large. It sees matrices alone; a
convolution over one frame is one too.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn, optim

_OF_THE_JOINT = ("joint.enc.weight", "joint.pred.weight")


class Optimiser:
    """One step for all weights of a network and of what hangs on it during training."""

    def __init__(self, network: nn.Module, beside: nn.Module, rate: float) -> None:
        self._same: list[tuple[nn.Parameter, nn.Parameter]] = []
        others = list(beside.parameters())
        for name, parameter in network.named_parameters():
            if _is_matrix(name, parameter):
                self._same.append((nn.Parameter(parameter.detach().flatten(1)), parameter))
            else:
                others.append(parameter)
        matrices = [matrix for matrix, _ in self._same]
        muon = optim.Muon(matrices, lr=rate, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw")
        adamw = optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
        self._both = (muon, adamw)

    def zero_grad(self) -> None:
        """Forget gradients."""
        for _, parameter in self._same:
            parameter.grad = None
        self._both[1].zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Move all weights along their gradients at this learning rate."""
        for matrix, parameter in self._same:
            matrix.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        for one in self._both:
            for group in one.param_groups:
                group["lr"] = rate
            one.step()  # type: ignore[no-untyped-call]

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` takes."""
        return [one.state_dict() for one in self._both]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on where another left off; weights that have another shape since begin anew."""
        for one, state in zip(self._both, states, strict=True):
            one.load_state_dict(state)
            for weight, moments in list(one.state.items()):
                if any(value.shape not in ((), weight.shape) for value in moments.values()):
                    del one.state[weight]


def _is_matrix(name: str, weight: Tensor) -> bool:
    if weight.dim() < 2 or weight.shape[2:].numel() != 1:
        return False
    return name in _OF_THE_JOINT or (name.startswith("encoder.layers.") and "pos_bias" not in name)
