"""FastConformer with CTC and RNN-T heads, in torch: for training, and as the plain statement of what is computed.

Read from top to bottom. Parameters are named as NeMo names them, so that its checkpoints load by name. Running it in
a stream is not done here: the deployed form (`fastconformer_onnx.py`) does that, with caches, and is held against
`FastConformer.encode` by tests.

Sources: FastConformer, arXiv 2305.05084; cache-aware streaming, arXiv 2312.17279; relative positions, arXiv 1901.02860.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 – as everybody calls it
from torch import Tensor, nn

from thalweg.models.speech.fastconformer.config import FastConformerConfig


class CausalConv2d(nn.Conv2d):
    """3 × 3, stride 2, over [batch, channel, time, band]; output t sees inputs 2t − 2 … 2t."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (2, 1, 2, 1))
        if self.groups == 1:
            return super().forward(x)
        # depthwise in bfloat16 on a processor, the way back takes five times as long as in float32
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Subsampling(nn.Module):
    """Eight mel frames become one: three strided convolutions, the last two depthwise. Frame k sees mel 0 … 8k."""

    def __init__(self, config: FastConformerConfig) -> None:
        super().__init__()
        c = config.subsampling_width
        self.conv = nn.Sequential(
            CausalConv2d(1, c, 3, 2),
            nn.ReLU(),
            CausalConv2d(c, c, 3, 2, groups=c),
            nn.Conv2d(c, c, 1),
            nn.ReLU(),
            CausalConv2d(c, c, 3, 2, groups=c),
            nn.Conv2d(c, c, 1),
            nn.ReLU(),
        )
        self.out = nn.Linear(c * config.subsampled_bands[2], config.width)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = mel[:, None]  # [B, 1, T, mel]
        x = x * frame_mask(lengths, x.shape[2])[:, None, :, None]
        for layer in self.conv:
            x = layer(x)
            if isinstance(layer, CausalConv2d):
                lengths = torch.where(lengths > 0, lengths // 2 + 1, 0)
            x = x * frame_mask(lengths, x.shape[2])[:, None, :, None]
        return self.out(x.transpose(1, 2).flatten(2)), lengths  # [B, T/8, width]


class RelativeAttention(nn.Module):
    """Attention with relative positions (Transformer-XL, section 3.3)."""

    def __init__(self, config: FastConformerConfig, dropout: float) -> None:
        super().__init__()
        d, bias = config.width, config.bias
        self.heads, self.head_width = config.heads, config.head_width
        self.linear_q = nn.Linear(d, d, bias=bias)
        self.linear_k = nn.Linear(d, d, bias=bias)
        self.linear_v = nn.Linear(d, d, bias=bias)
        self.linear_out = nn.Linear(d, d, bias=bias)
        self.linear_pos = nn.Linear(d, d, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(config.heads, config.head_width))
        self.pos_bias_v = nn.Parameter(torch.zeros(config.heads, config.head_width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (f(x).view(b, t, self.heads, self.head_width) for f in (self.linear_q, self.linear_k, self.linear_v))
        p = self.linear_pos(positions).view(2 * t - 1, self.heads, self.head_width)
        content = torch.einsum("bihd,bjhd->bhij", q + self.pos_bias_u, k)
        position = torch.einsum("bihd,phd->bhip", q + self.pos_bias_v, p)  # [B, h, T, 2T-1]
        position = F.pad(position, (1, 0)).view(b, self.heads, 2 * t, t)[:, :, 1:]  # Transformer-XL's shift
        position = position.reshape(b, self.heads, t, 2 * t - 1)[..., :t]
        scores = ((content + position) / math.sqrt(self.head_width)).masked_fill(~mask[:, None], -1e4)
        shares = self.dropout(scores.softmax(-1).masked_fill(~mask[:, None], 0.0))
        out: Tensor = self.linear_out(torch.einsum("bhij,bjhd->bihd", shares, v).reshape(b, t, d))
        return out


class Convolution(nn.Module):
    """Pointwise, gate, causal depthwise over 9 frames, normalise, swish, pointwise."""

    def __init__(self, config: FastConformerConfig) -> None:
        super().__init__()
        d, bias = config.width, config.bias
        self.pointwise_conv1 = nn.Conv1d(d, 2 * d, 1, bias=bias)
        self.depthwise_conv = nn.Conv1d(d, d, config.kernel, groups=d, bias=bias)
        self.batch_norm = nn.LayerNorm(d) if config.conv_norm == "layer_norm" else nn.BatchNorm1d(d)
        self.pointwise_conv2 = nn.Conv1d(d, d, 1, bias=bias)
        self.past = config.kernel - 1

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.pointwise_conv1(x.transpose(1, 2)), dim=1)  # [B, width, T]
        x = self.depthwise_conv(F.pad(x, (self.past, 0)))
        if isinstance(self.batch_norm, nn.LayerNorm):
            x = self.batch_norm(x.transpose(1, 2)).transpose(1, 2)
        else:
            x = self.batch_norm(x)
        out: Tensor = self.pointwise_conv2(F.silu(x)).transpose(1, 2)
        return out


class FeedForward(nn.Module):
    """Two linear layers with swish between."""

    def __init__(self, config: FastConformerConfig, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.width, config.width * config.ff_factor, bias=config.bias)
        self.linear2 = nn.Linear(config.width * config.ff_factor, config.width, bias=config.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear2(self.dropout(F.silu(self.linear1(x))))
        return out


class Layer(nn.Module):
    """One Conformer layer: half a feed-forward, attention, convolution, half a feed-forward."""

    def __init__(self, config: FastConformerConfig, dropout: float) -> None:
        super().__init__()
        d = config.width
        self.norm_feed_forward1, self.feed_forward1 = nn.LayerNorm(d), FeedForward(config, dropout)
        self.norm_self_att, self.self_attn = nn.LayerNorm(d), RelativeAttention(config, dropout)
        self.norm_conv, self.conv = nn.LayerNorm(d), Convolution(config)
        self.norm_feed_forward2, self.feed_forward2 = nn.LayerNorm(d), FeedForward(config, dropout)
        self.norm_out = nn.LayerNorm(d)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        x = x + 0.5 * self.dropout(self.feed_forward1(self.norm_feed_forward1(x)))
        x = x + self.dropout(self.self_attn(self.norm_self_att(x), positions, mask))
        x = x + self.dropout(self.conv(self.norm_conv(x)))
        x = x + 0.5 * self.dropout(self.feed_forward2(self.norm_feed_forward2(x)))
        out: Tensor = self.norm_out(x)
        return out


class Encoder(nn.Module):
    """Mel frames in, one vector per 80 ms out."""

    def __init__(self, config: FastConformerConfig, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.pre_encode = Subsampling(config)
        self.layers = nn.ModuleList(Layer(config, dropout) for _ in range(config.layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, mel: Tensor, lengths: Tensor, chunks: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As `FastConformer.encode`, for chunks of these many frames; the last size repeats to the end."""
        x, lengths = self.pre_encode(mel, lengths)
        if self.config.scale_input:
            x = x * math.sqrt(self.config.width)
        x = self.dropout(x)
        mask = chunk_mask(chunks, lengths, x.shape[1], self.config.left)
        positions = position_table(x.shape[1], self.config.width).to(x)
        for layer in self.layers:
            x = layer(x, positions, mask)
        return x, lengths


class Prediction(nn.Module):
    """The RNN-T prediction network: an LSTM over the tokens so far; it starts from a zero vector."""

    def __init__(self, config: FastConformerConfig) -> None:
        super().__init__()
        h = config.prediction_width
        lstm = nn.ModuleDict({"lstm": nn.LSTM(h, h, config.prediction_layers)})
        embed = nn.Embedding(config.vocabulary + 1, h, padding_idx=config.vocabulary)
        self.prediction = nn.ModuleDict({"embed": embed, "dec_rnn": lstm})

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, U] → [B, U + 1, h]."""
        x = F.pad(self.prediction["embed"](tokens), (0, 0, 1, 0))
        out: Tensor = self.prediction["dec_rnn"]["lstm"](x.transpose(0, 1))[0].transpose(0, 1)  # type: ignore[index]
        return out


class Joint(nn.Module):
    """Encoder frame and prediction meet: logits over the tokens and the blank."""

    def __init__(self, config: FastConformerConfig, dropout: float) -> None:
        super().__init__()
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[config.joint_activation]()
        self.enc = nn.Linear(config.width, config.joint_width)
        self.pred = nn.Linear(config.prediction_width, config.joint_width)
        head = nn.Linear(config.joint_width, config.vocabulary + 1)
        self.joint_net = nn.Sequential(activation, nn.Dropout(dropout), head)

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """[B, T, width], [B, U, h] → [B, T, U, vocabulary + 1]."""
        out: Tensor = self.joint_net(self.enc(encoded)[:, :, None] + self.pred(predicted)[:, None])
        return out


class FastConformer(nn.Module):
    """Encoder and heads."""

    def __init__(self, config: FastConformerConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, dropout)
        if config.ctc:
            head = nn.Conv1d(config.width, config.vocabulary + 1, 1)
            self.ctc_decoder = nn.ModuleDict({"decoder_layers": nn.Sequential(head)})
        if config.rnnt:
            self.decoder = Prediction(config)
            self.joint = Joint(config, dropout)

    def encode(self, mel: Tensor, lengths: Tensor, chunks: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        mel: [B, T, mel]; lengths: [B], mel frames. chunks: `[R + 1]` for look-ahead R; several are the sizes of the
        first chunks one by one, the last of them repeated, as when the look-ahead changes on the way.
        Returns [B, T', width] and [B], in encoder frames.
        """
        encoded: tuple[Tensor, Tensor] = self.encoder(mel, lengths, chunks)
        return encoded

    def ctc_log_probs(self, encoded: Tensor) -> Tensor:
        """[B, T', width] → [B, T', vocabulary + 1]."""
        logits: Tensor = self.ctc_decoder["decoder_layers"](encoded.transpose(1, 2)).transpose(1, 2)
        return logits.log_softmax(-1)

    def joint_logits(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        """[B, T', width], [B, U] → [B, T', U + 1, vocabulary + 1]."""
        logits: Tensor = self.joint(encoded, self.decoder(tokens))
        return logits


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """[B] → [B, frames], true where a frame is within its utterance."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def chunk_mask(chunks: Sequence[int], lengths: Tensor, frames: int, left: int) -> Tensor:
    """The attention mask, [B, query, key]: every frame sees its whole chunk and the `left` frames before that."""
    ends: list[int] = []
    while not ends or ends[-1] < frames:
        ends.append((ends[-1] if ends else 0) + chunks[min(len(ends), len(chunks) - 1)])
    end = torch.tensor(ends, device=lengths.device)
    frame = torch.arange(frames, device=lengths.device)
    chunk = torch.searchsorted(end, frame, right=True)
    stop = end[chunk][:, None]
    start = F.pad(end, (1, 0))[chunk][:, None] - left
    visible = (frame >= start) & (frame < stop)
    return visible[None] & frame_mask(lengths, frames)[:, None]


def position_table(frames: int, width: int) -> Tensor:
    """Sines and cosines of the distances frames − 1 … −(frames − 1), [2 frames − 1, width]."""
    distances = torch.arange(frames - 1, -frames, -1, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10_000.0) / width))
    return torch.stack([torch.sin(distances * rates), torch.cos(distances * rates)], dim=-1).flatten(1)
