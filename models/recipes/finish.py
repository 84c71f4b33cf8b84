"""From a trained network to a bundle: plain pooling beside it, gate, threshold, predictor, and what it can do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from thalweg.models.recipes.export import export_encoder, state_arrays, write_bundle
from thalweg.models.recipes.heads import CHECKPOINTS, gate_data, gate_scores, mlp_arrays, train_gate, train_predictor
from thalweg.models.recipes.networks import CHANNELS, SIZES
from thalweg.models.recipes.training import Configuration, Network, Pool, draw, evaluate, losses
from thalweg.models.senses.aggregation import AggregationConfig
from thalweg.models.senses.calibration import Calibration, Trial, calibrate

PLAIN = AggregationConfig(CHANNELS, False, False, False, False, False)
"""Mean pooling in place of aggregation."""

LOSS = 0.005
"""Accuracy that skipping may cost on the calibration set: half a point, so that a point remains for other data."""


def best(network: Network) -> Configuration:
    """The dearest configuration: largest encoders, shortest units."""
    return Configuration(
        dict.fromkeys(network.senses, SIZES[-1]), {m: s.settings[0] for m, s in network.senses.items()}, False
    )


def accuracy(
    network: Network, pool: Pool, configuration: Configuration, seen: Mapping[str, float] | None = None
) -> float:
    """Share of right decisions, 0…1."""
    return float((evaluate(network, pool, configuration, seen).argmax(1) == pool.labels).float().mean())


def retrain(
    network: Network, pool: Pool, classes: int, config: AggregationConfig, steps: int = 1500, seed: int = 0
) -> Network:
    """A network with the same encoders, which stay as they are, and other aggregation and fusion, trained anew.

    Features are computed once, for the dearest configuration and five that are drawn; so a step costs little.
    """
    generator = np.random.default_rng(seed)
    configurations = [best(network), *(draw(network.senses, generator) for _ in range(5))]
    with torch.no_grad():
        cached = [
            {
                m: torch.cat([network.features(m, raw[i : i + 256], c).half() for i in range(0, len(raw), 256)])
                for m, raw in pool.raw.items()
            }
            for c in configurations
        ]
    torch.manual_seed(seed)
    other = Network(tuple(network.senses.values()), classes, config)
    other.encoders.load_state_dict(network.encoders.state_dict())
    trained = [*other.aggregations.parameters(), *other.fusion.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        index = torch.as_tensor(generator.integers(0, len(pool.labels), 128))
        features = {m: x[index].float() for m, x in cached[step % len(cached)].items()}
        loss, _ = losses(other, features, pool.labels[index], generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return other


def trials(network: Network, gate: nn.Sequential, pools: Sequence[Pool], slow: str) -> list[Trial]:
    """The gate's word and the truth on held-out pools."""
    found = []
    for pool in pools:
        data = gate_data(network, pool, best(network), slow)
        for p, right, whole in zip(gate_scores(gate, data), data.right, data.right_whole, strict=True):
            found.append(Trial(gate=tuple(map(float, p)), right=tuple(map(bool, right)), right_whole=bool(whole)))
    return found


def finish(
    network: Network,
    folder: Path,
    about: dict[str, Any],
    examples: Mapping[str, tuple[dict[str, nn.Module], torch.Tensor, bool]],
    pool: Pool,
    held_out: Pool,
    calibration: Sequence[Pool],
    slow: str,
) -> None:
    """Train the rest and write the bundle. `examples`: modality → (size → what is exported, one unit, any length)."""
    folder.mkdir(parents=True, exist_ok=True)
    pooling = retrain(network, pool, len(about["classes"]), PLAIN)
    gate = train_gate(network, held_out)
    chosen: Calibration = calibrate(trials(network, gate, calibration, slow), LOSS)
    print(f"gate: {chosen}", flush=True)
    predictor = train_predictor(network, held_out)
    whole = [accuracy(network, p, best(network)) for p in calibration]
    for m in network.senses:
        without = [accuracy(network, p, best(network), {m: 0.0}) for p in calibration]
        about["modalities"][m]["without"] = round(min(1.0, sum(without) / sum(whole)), 3)
        for size, net in examples[m][0].items():
            export_encoder(net, examples[m][1], folder / f"{m}_{size}.onnx", any_length=examples[m][2])
    about["gate"] = {
        "threshold": chosen.threshold, "loss": LOSS, "checkpoints": CHECKPOINTS, "slow": slow,
        "calibration_accuracy": chosen.accuracy, "calibration_accuracy_whole": chosen.accuracy_whole,
        "calibration_skip_ratio": chosen.skip_ratio, "calibration_samples": sum(len(p.labels) for p in calibration),
    }  # fmt: skip
    weights: dict[str, Any] = {}
    for net, aggregation, fusion in ((network, "aggregation", "fusion"), (pooling, "pooling", "pooling_fusion")):
        for m in net.senses:
            weights |= state_arrays(net.aggregations[m], f"{aggregation}.{m}")
        weights |= state_arrays(net.fusion, fusion)
    weights |= {name: value.astype("float16") for name, value in mlp_arrays(gate, "gate.").items()}
    weights |= {name: value.astype("float16") for name, value in mlp_arrays(predictor, "predictor.").items()}
    write_bundle(folder, about, weights)
    print(f"accuracy on the calibration sets: {[round(w, 4) for w in whole]}, n = "
          f"{[math.prod(p.labels.shape) for p in calibration]}", flush=True)  # fmt: skip
