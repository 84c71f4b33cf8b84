"""The deployed form of a FastConformer: ONNX graphs with the caches as inputs and outputs, written node by node.

Theory of operation. One step takes a chunk of C = look-ahead + 1 frames of B streams; B and C are free, so one graph
serves every look-ahead and any batch. What is different from NeMo's export (`cache_aware_stream_step`):

- The cache of attention holds *projected* keys and values. NeMo keeps the input of attention and projects all of its
  70 frames again in every step.
- The positional projection depends on distance alone. It is a constant of the graph, for all distances there are.
- A cache is a ring: frame f lies at slot f mod `left`. A step does not move it, it only says what is to be written.
  `rows` tells each query which row of the positional projection belongs to which slot.
- The subsampler keeps one column before each strided convolution, where NeMo takes nine mel frames again.
- Scales are folded into weights: 1/√d of attention, √width of the input, ½ of the feed-forwards, batch norms.

With `int8`, matrix products quantise weights per column and activations *per row*, when they come. ONNX Runtime's own
dynamic quantisation takes one scale for the whole batch, and so lets streams change each other's results.

Shapes at a step: mel [B, 8C, mel]; rows [B, C, left + C]; hidden [B, 1, 1, left + C], 0 or −10000; k0 … and v0 …
[B, heads, left, head_width]; conv [layers, B, kernel − 1, width]; new_k, new_v [layers, B, heads, C, head_width], to be
written into the rings; encoded [B, C, width].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from thalweg.models.speech.fastconformer.config import FastConformerConfig
from thalweg.models.speech.fastconformer.torch_file import Weights

_OPSET = 17
_MS = "com.microsoft"
_TINY = 1e-10


class _Graph:
    """Nodes and constants of one graph, under short names of its own making."""

    def __init__(self, int8: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.int8 = int8
        self._names = 0

    def input(self, name: str, shape: list[int | str], dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, shape: list[int | str]) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = self._name("c")
        self.constants[name] = numpy_helper.from_array(np.asarray(value, dtype, order="C"), name)
        return name

    def shared(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """A small constant that is kept once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, dtype), name)
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        outputs = [self._name("t") for _ in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, domain=domain, **attributes))
        return outputs

    def _name(self, letter: str) -> str:
        self._names += 1
        return f"{letter}{self._names}"

    def shape(self, value: str, *sizes: int) -> str:
        return self.op("Reshape", value, self.constant(sizes, np.int64))

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        """x [rows, inputs] times weight [outputs, inputs], as torch has it."""
        if not self.int8:
            arrays = [self.constant(weight.T)] + ([] if bias is None else [self.constant(bias)])
            return self.op("MatMul" if bias is None else "Gemm", x, *arrays)
        product = self._product8(x, weight)
        return product if bias is None else self.op("Add", product, self.constant(bias))

    def _product8(self, x: str, weight: NDArray[np.float32]) -> str:
        """Every row is divided by its largest number; a row of zeros still gives zero, its largest number."""
        scale = np.maximum(np.abs(weight).max(axis=1), _TINY) / 127
        rounded = np.clip(np.round(weight / scale[:, None]), -127, 127).astype(np.int8)
        largest = self.op("ReduceMax", self.op("Abs", x), keepdims=1, axes=[-1])
        step, middle = self.shared("1/127", 1 / 127), self.shared("128", 128, np.uint8)
        quantised = self.op("QuantizeLinear", self.op("Div", x, largest), step, middle)
        zeros = self.constant(np.zeros(len(scale)), np.int8)
        args = (quantised, self.constant(rounded.T, np.int8), step, self.constant(scale), middle, zeros)
        return self.op("Mul", self.op("MatMulIntegerToFloat", *args, domain=_MS), largest)

    def layer_norm(self, x: str, weights: Weights, name: str) -> str:
        scale, bias = self.constant(weights[f"{name}.weight"]), self.constant(weights[f"{name}.bias"])
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def swish(self, x: str) -> str:
        return self.op("QuickGelu", x, domain=_MS, alpha=1.0)

    def model(self, name: str) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="thalweg")


def encoder_graph(config: FastConformerConfig, weights: Weights, int8: bool = False) -> onnx.ModelProto:
    """One step of the encoder, with `ctc` log probabilities and `joint` projections as outputs beside `encoded`."""
    g = _Graph(int8)
    heads, left, d = config.heads, config.left, config.width
    rows = g.input("rows", ["B", "C", "K"], TensorProto.INT64)
    sizes = _Sizes(g, rows, heads, config.head_width, d)
    per_head = g.op("Expand", g.op("Unsqueeze", rows, g.constant([1], np.int64)), sizes.scores)
    hidden = g.input("hidden", ["B", 1, 1, "K"])
    where = (per_head, hidden, position_table(left, max(config.lookaheads) + 1, d))
    taps = g.input("taps", ["C", config.kernel], TensorProto.INT64)
    convolved = g.input("conv", [config.layers, "B", config.kernel - 1, d])
    x = _subsample(g, config, weights)
    new: dict[str, list[str]] = {"k": [], "v": [], "conv": []}
    for i in range(config.layers):
        name = f"encoder.layers.{i}"
        past = [g.input(f"{kind}{i}", ["B", heads, left, config.head_width]) for kind in "kv"]
        before = g.op("Gather", convolved, g.constant(i, np.int64), axis=0)
        y = g.layer_norm(x, weights, f"{name}.norm_feed_forward1")
        x = g.op("Add", x, _feed_forward(g, weights, f"{name}.feed_forward1", y))
        y = g.layer_norm(x, weights, f"{name}.norm_self_att")
        y, key, value = _attention(g, config, weights, f"{name}.self_attn", y, past, where, sizes)
        x = g.op("Add", x, y)
        y = g.layer_norm(x, weights, f"{name}.norm_conv")
        y, kept = _convolution(g, config, weights, f"{name}.conv", y, (before, taps), sizes)
        x = g.op("Add", x, y)
        y = g.layer_norm(x, weights, f"{name}.norm_feed_forward2")
        x = g.op("Add", x, _feed_forward(g, weights, f"{name}.feed_forward2", y))
        x = g.layer_norm(x, weights, f"{name}.norm_out")
        for kind, produced in (("k", key), ("v", value), ("conv", kept)):
            new[kind].append(produced)
    for kind, each in new.items():
        rest: list[int | str] = [config.kernel - 1, d] if kind == "conv" else [heads, "C", config.head_width]
        g.output(g.op("Concat", *each, axis=0), f"new_{kind}", ["LB", *rest])
    _heads(g, config, weights, x, sizes)
    return g.model("encoder")


class _Sizes:
    """Shapes that are only known at a step, for `Reshape`."""

    def __init__(self, g: _Graph, rows: str, heads: int, head_width: int, width: int) -> None:
        self.batch, self.chunk, keys = g.ops("Split", 3, g.op("Shape", rows), g.constant([1, 1, 1], np.int64), axis=0)
        h, w, d = (g.constant([n], np.int64) for n in (heads, head_width, width))
        self.scores = g.op("Concat", self.batch, h, self.chunk, keys, axis=0)  # [B, heads, C, keys]
        self.split = g.op("Concat", self.batch, self.chunk, h, w, axis=0)  # [B, C, heads, head_width]
        self.frames = g.op("Concat", self.batch, self.chunk, d, axis=0)  # [B, C, width]
        self.rows = g.constant([-1, width], np.int64)  # [B · C, width]


def _heads(g: _Graph, config: FastConformerConfig, weights: Weights, x: str, sizes: _Sizes) -> None:
    def framed(rows: str, width: int) -> str:
        shape = g.op("Concat", sizes.batch, sizes.chunk, g.constant([width], np.int64), axis=0)
        return g.op("Reshape", rows, shape)

    g.output(framed(x, config.width), "encoded", ["B", "C", config.width])
    if config.ctc:
        head, classes = "ctc_decoder.decoder_layers.0", config.vocabulary + 1
        logits = g.linear(x, weights[f"{head}.weight"][:, :, 0], weights[f"{head}.bias"])
        g.output(framed(g.op("LogSoftmax", logits, axis=-1), classes), "ctc", ["B", "C", classes])
    if config.rnnt:
        bias = weights["joint.enc.bias"] + weights["joint.pred.bias"]
        joined = g.linear(x, weights["joint.enc.weight"], bias)
        g.output(framed(joined, config.joint_width), "joint", ["B", "C", config.joint_width])


def _subsample(g: _Graph, config: FastConformerConfig, weights: Weights) -> str:
    channels, bands = config.subsampling_width, (config.mel.n_mels, *config.subsampled_bands)
    mel = g.input("mel", ["B", "M", config.mel.n_mels])
    x = g.op("Unsqueeze", mel, g.constant([1], np.int64))  # [B, 1, time, band]
    for i, (strided, pointwise) in enumerate(((0, None), (2, 3), (5, 6))):
        width = 1 if i == 0 else channels
        past = g.input(f"column{i}", ["B", width, 1, bands[i]])
        if i:
            x = g.op("Mul", x, g.input(f"mask{i}", ["B", 1, f"M{i}", 1]))
        last = g.op("Slice", x, *(g.constant([v], np.int64) for v in (-1, 2**31 - 1, 2)))
        g.output(last, f"new_column{i}", ["B", width, 1, bands[i]])
        x = g.op("Concat", past, x, axis=2)
        name = f"encoder.pre_encode.conv.{strided}"
        arrays = (g.constant(weights[f"{name}.weight"]), g.constant(weights[f"{name}.bias"]))
        x = g.op("Conv", x, *arrays, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 2, 0, 1], group=width)
        if pointwise:
            name = f"encoder.pre_encode.conv.{pointwise}"
            arrays = (g.constant(weights[f"{name}.weight"]), g.constant(weights[f"{name}.bias"]))
            x = g.op("Conv", x, *arrays, kernel_shape=[1, 1])
        x = g.op("Relu", x)
    x = g.shape(g.op("Transpose", x, perm=[0, 2, 1, 3]), -1, channels * bands[3])  # [B · C, channel · band]
    scale = np.float32(np.sqrt(config.width) if config.scale_input else 1.0)
    name = "encoder.pre_encode.out"
    return g.linear(x, weights[f"{name}.weight"] * scale, weights[f"{name}.bias"] * scale)


def _feed_forward(g: _Graph, weights: Weights, name: str, x: str) -> str:
    x = g.swish(g.linear(x, weights[f"{name}.linear1.weight"], weights.get(f"{name}.linear1.bias")))
    bias, half = weights.get(f"{name}.linear2.bias"), np.float32(0.5)
    return g.linear(x, weights[f"{name}.linear2.weight"] * half, None if bias is None else bias * half)


def _attention(
    g: _Graph,
    config: FastConformerConfig,
    weights: Weights,
    name: str,
    x: str,
    past: list[str],
    where: tuple[str, str, NDArray[np.float32]],
    sizes: _Sizes,
) -> tuple[str, str, str]:
    heads, width = config.heads, config.head_width
    scale = np.float32(1 / np.sqrt(width))
    parts = [weights[f"{name}.linear_{p}.weight"] for p in "qkv"]
    biases = [weights.get(f"{name}.linear_{p}.bias", np.zeros(config.width, np.float32)) for p in "qkv"]
    projected = g.linear(
        x,
        np.concatenate([parts[0] * scale, *parts[1:]]),
        np.concatenate([biases[0] * scale, *biases[1:]]) if config.bias else None,
    )
    thirds = g.ops("Split", 3, projected, g.constant([config.width] * 3, np.int64), axis=-1)
    q, k, v = (g.op("Transpose", g.op("Reshape", t, sizes.split), perm=[0, 2, 1, 3]) for t in thirds)  # [B, h, C, w]
    with_u, with_v = (
        g.op("Add", q, g.constant(weights[f"{name}.pos_bias_{letter}"].reshape(1, heads, 1, width) * scale))
        for letter in "uv"
    )
    per_head, hidden, table = where
    rows = (table @ weights[f"{name}.linear_pos.weight"].T).reshape(-1, heads, width)
    position = g.op("MatMul", with_v, g.constant(rows.transpose(1, 2, 0)[None]))  # [B, h, C, distances]
    scores = [g.op("FusedMatMul", with_u, keys, domain=_MS, transB=1) for keys in (past[0], k)]
    content = g.op("Concat", *scores, axis=-1)  # [B, h, C, left + C]
    biased = g.op("Add", g.op("GatherElements", position, per_head, axis=3), hidden)
    shares = g.op("Softmax", g.op("Add", content, biased), axis=-1)
    parted = g.constant([config.left], np.int64)
    last, end = g.constant([-1], np.int64), g.constant([2**31 - 1], np.int64)
    old = g.op("MatMul", g.op("Slice", shares, g.constant([0], np.int64), parted, last), past[1])
    new = g.op("MatMul", g.op("Slice", shares, parted, end, last), v)
    mixed = g.op("Reshape", g.op("Transpose", g.op("Add", old, new), perm=[0, 2, 1, 3]), sizes.rows)
    return g.linear(mixed, weights[f"{name}.linear_out.weight"], weights.get(f"{name}.linear_out.bias")), k, v


def _convolution(
    g: _Graph,
    config: FastConformerConfig,
    weights: Weights,
    name: str,
    x: str,
    past: tuple[str, str],
    sizes: _Sizes,
) -> tuple[str, str]:
    """The depthwise convolution is a weighted sum over gathered frames: `Conv` would take one channel at a time."""
    d = config.width
    before, taps = past
    one = weights[f"{name}.pointwise_conv1.weight"][:, :, 0]
    gated = g.linear(x, one, weights.get(f"{name}.pointwise_conv1.bias"))
    value, gate = g.ops("Split", 2, gated, g.constant([d, d], np.int64), axis=-1)
    x = g.op("Reshape", g.op("Mul", value, g.op("Sigmoid", gate)), sizes.frames)
    x = g.op("Concat", before, x, axis=1)  # [B, kernel − 1 + C, width]
    bounds = (g.constant([n], np.int64) for n in (1 - config.kernel, 2**31 - 1, 1))
    kept = g.op("Slice", x, *bounds)
    kernel, bias = _depthwise(config, weights, name)
    windows = g.op("Gather", x, taps, axis=1)  # [B, C, kernel, width]
    weighted = g.op("Mul", windows, g.constant(kernel[:, 0].T))
    summed = g.op("ReduceSum", weighted, g.constant([2], np.int64), keepdims=0)
    x = g.op("Reshape", g.op("Add", summed, g.constant(bias)), sizes.rows)
    if config.conv_norm == "layer_norm":
        x = g.layer_norm(x, weights, f"{name}.batch_norm")
    two = weights[f"{name}.pointwise_conv2.weight"][:, :, 0]
    return g.linear(g.swish(x), two, weights.get(f"{name}.pointwise_conv2.bias")), kept


def _depthwise(
    config: FastConformerConfig, weights: Weights, name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel [width, 1, taps] and bias, with a batch norm that follows folded in."""
    kernel = weights[f"{name}.depthwise_conv.weight"]
    bias = weights.get(f"{name}.depthwise_conv.bias", np.zeros(config.width, np.float32))
    if config.conv_norm == "layer_norm":
        return kernel, bias
    norm = f"{name}.batch_norm"
    factor = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + np.float32(1e-5))
    return kernel * factor[:, None, None], (bias - weights[f"{norm}.running_mean"]) * factor + weights[f"{norm}.bias"]


def position_table(left: int, chunk: int, width: int) -> NDArray[np.float32]:
    """Sines and cosines of the distances left + chunk − 1 … −(chunk − 1), [left + 2 chunk − 1, width]."""
    distances = np.arange(left + chunk - 1, -chunk, -1, dtype=np.float32)[:, None]
    rates = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10_000.0) / width))
    angles = distances * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(distances), width)


def prediction_graph(config: FastConformerConfig, weights: Weights, int8: bool = False) -> onnx.ModelProto:
    """One token further: token [B], h and c [layers, B, width] → predicted [B, joint], new_h, new_c.

    The token −1 stands for the start: a vector of zeros.
    """
    g = _Graph(int8)
    h, layers = config.prediction_width, config.prediction_layers
    token = g.input("token", ["B"], TensorProto.INT64)
    state: list[int | str] = [layers, "B", h]
    hs, cs = g.input("h", state), g.input("c", state)
    embeddings = np.concatenate([weights["decoder.prediction.embed.weight"][:-1], np.zeros((1, h), np.float32)])
    x = g.op("Unsqueeze", g.op("Gather", g.constant(embeddings), token), g.constant([0], np.int64))  # [1, B, h]
    new_h, new_c = [], []
    for i in range(layers):
        lstm = "decoder.prediction.dec_rnn.lstm"
        arrays = [_iofc(weights[f"{lstm}.{kind}_{side}_l{i}"]) for kind in ("weight", "bias") for side in ("ih", "hh")]
        bounds = (g.constant([i], np.int64), g.constant([i + 1], np.int64), g.constant([0], np.int64))
        start = [g.op("Slice", s, *bounds) for s in (hs, cs)]
        constants = [g.constant(a[None]) for a in (arrays[0], arrays[1], np.concatenate(arrays[2:]))]
        y, h_next, c_next = g.ops("LSTM", 3, x, *constants, "", *start, hidden_size=h)
        x = g.op("Squeeze", y, g.constant([1], np.int64))
        new_h.append(h_next)
        new_c.append(c_next)
    projected = g.linear(g.op("Squeeze", x, g.constant([0], np.int64)), weights["joint.pred.weight"], None)
    g.output(projected, "predicted", ["B", config.joint_width])
    g.output(g.op("Concat", *new_h, axis=0), "new_h", state)
    g.output(g.op("Concat", *new_c, axis=0), "new_c", state)
    return g.model("prediction")


def _iofc(gates: NDArray[np.float32]) -> NDArray[np.float32]:
    """From torch's order of gates (input, forget, cell, output) to that of ONNX (input, output, forget, cell)."""
    i, f, c, o = np.split(gates, 4)
    return np.concatenate([i, o, f, c])


def joint_graph(config: FastConformerConfig, weights: Weights, int8: bool = False) -> onnx.ModelProto:
    """frame [B, joint] and predicted [B, joint] → log probabilities [B, vocabulary + 1]."""
    g = _Graph(int8)
    frame, predicted = (g.input(name, ["B", config.joint_width]) for name in ("frame", "predicted"))
    activation = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}[config.joint_activation]
    x = g.op(activation, g.op("Add", frame, predicted))
    logits = g.linear(x, weights["joint.joint_net.2.weight"], weights["joint.joint_net.2.bias"])
    g.output(g.op("LogSoftmax", logits, axis=-1), "log_probs", ["B", config.vocabulary + 1])
    return g.model("joint")
