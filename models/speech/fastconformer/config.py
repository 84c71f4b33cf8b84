"""The shape of a cache-aware FastConformer: what network, converter and runtime agree on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from thalweg.models.errors import ModelError
from thalweg.models.speech.mel import MelConfig

SUBSAMPLING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FastConformerConfig:
    """One encoder and its heads. `left`: frames of 80 ms that attention looks back; `lookaheads`: those trained.

    With look-ahead R frames are grouped in chunks of R + 1; each frame sees its whole chunk and the `left` frames
    before it. `left` is a multiple of every chunk (arXiv 2312.17279, section 3.2). `vocabulary` is the number of tokens
    without the blank, whose id it is. A head that is absent has `ctc` False or `rnnt` False.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    layers: int = 17
    width: int = 512
    heads: int = 8
    ff_factor: int = 4
    kernel: int = 9
    subsampling_width: int = 256
    left: int = 70
    lookaheads: tuple[int, ...] = (13, 6, 1, 0)
    scale_input: bool = False
    bias: bool = True
    conv_norm: str = "layer_norm"
    vocabulary: int = 1024
    ctc: bool = True
    rnnt: bool = True
    prediction_width: int = 640
    prediction_layers: int = 1
    joint_width: int = 640
    joint_activation: str = "relu"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ModelError(f"width {self.width} is not a multiple of {self.heads} attention heads")
        for lookahead in self.lookaheads:
            if lookahead < 0 or self.left % (lookahead + 1):
                raise ModelError(f"look-ahead {lookahead}: the left context {self.left} is no multiple of its chunk")
        if self.conv_norm not in ("layer_norm", "batch_norm"):
            raise ModelError(f"conv_norm {self.conv_norm!r}, expected 'layer_norm' or 'batch_norm'")

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def frame_ms(self) -> float:
        """How long one encoder frame is."""
        return SUBSAMPLING * self.mel.hop_samples * 1000 / self.mel.sample_rate

    @property
    def subsampled_bands(self) -> tuple[int, int, int]:
        """Frequency bands after each of the three strided convolutions: `n // 2 + 1` each time."""
        first = self.mel.n_mels // 2 + 1
        return first, first // 2 + 1, (first // 2 + 1) // 2 + 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FastConformerConfig:
        """Back from `as_dict`. Raises ModelError on unknown or missing names."""
        try:
            rest = dict(values)
            mel = MelConfig(**rest.pop("mel"))
            return cls(mel=mel, lookaheads=tuple(rest.pop("lookaheads")), **rest)
        except (TypeError, KeyError) as error:
            raise ModelError(f"this is not the configuration of a FastConformer: {error}") from None


SMALL = FastConformerConfig(layers=16, width=176, heads=4, subsampling_width=176, prediction_width=320, joint_width=320)
"""About 12 million parameters in the encoder: NeMo's small size."""

LARGE = FastConformerConfig()
"""About 109 million parameters in the encoder: NeMo's large size."""
