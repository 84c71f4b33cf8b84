"""A deployed recogniser: a folder with `model.json`, `filters.npy` and the ONNX graphs, as `convert` writes it.

encoder.onnx      one step of the encoder for any batch and look-ahead, with its heads' outputs
prediction.onnx   RNN-T only: one token further
joint.onnx        RNN-T only: log probabilities of one frame
weights.npz       where `keep_weights` put them: the weights themselves, float16, to train on or to convert anew
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.tokens import Tokens
from thalweg.models.speech.fastconformer.config import FastConformerConfig
from thalweg.models.speech.fastconformer.nemo_archive import NemoCheckpoint
from thalweg.models.store.arrays import read_arrays
from thalweg.models.store.bounded import read_json_at_most
from thalweg.models.store.onnx import open_session

FORMAT = 1
DESCRIPTION = "model.json"
WEIGHTS = "weights.npz"


@dataclass(frozen=True, slots=True)
class Deployed:
    """What `model.json` says. `lookahead`: frames, the default; `int8`: how the graphs compute."""

    folder: Path
    config: FastConformerConfig
    tokens: Tokens
    lookahead: int
    int8: bool
    filters: NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> Deployed:
        """Read a folder. Raises ModelError where it is not what `convert` writes."""
        try:
            said: dict[str, Any] = read_json_at_most(folder / DESCRIPTION)
            if said.get("format") != FORMAT:
                raise ModelError(f"{folder}: format {said.get('format')!r}, this version reads {FORMAT}: convert again")
            tokens = Tokens(tuple(said["tokens"]["pieces"]), said["tokens"]["characters"])
            filters = np.load(folder / "filters.npy", allow_pickle=False)
            config = FastConformerConfig.from_dict(said["config"])
            return cls(folder, config, tokens, int(said["lookahead"]), bool(said["int8"]), filters)
        except FileNotFoundError as error:
            raise ModelError(f"{folder} is no deployed recogniser: {Path(error.filename).name} is missing") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder / DESCRIPTION} is damaged: {error!r}") from None

    def checkpoint(self) -> NemoCheckpoint:
        """The weights that `keep_weights` put beside the graphs, as float32. Raises ModelError where there are none."""
        path = self.folder / WEIGHTS
        try:
            weights = {name: array.astype(np.float32) for name, array in read_arrays(path).items()}
        except FileNotFoundError:
            raise ModelError(f"{self.folder} holds graphs only: there is no {WEIGHTS} to convert anew") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} is damaged: {error}") from None
        return NemoCheckpoint(self.config, self.tokens, weights | {"mel_filters": self.filters})

    def session(self, graph: str, threads: int) -> Any:
        """An ONNX Runtime session (which has no types) over one of the graphs."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return open_session(self.folder / f"{graph}.onnx", options)


def lookahead_frames(config: FastConformerConfig, lookahead_ms: float) -> int:
    """A look-ahead in milliseconds as frames. Raises ModelError where the model was not trained for it."""
    frames = lookahead_ms / config.frame_ms
    if frames not in config.lookaheads:
        trained = ", ".join(f"{lookahead * config.frame_ms:.0f}" for lookahead in sorted(config.lookaheads))
        raise ModelError(f"look-ahead {lookahead_ms:g} ms, this model was trained for {trained} ms")
    return int(frames)


def convert(
    checkpoint: NemoCheckpoint, folder: Path, *, lookahead_ms: float | None = None, int8: bool = False
) -> Deployed:
    """Write the deployed form of a checkpoint into `folder`; `model.json` comes last. Raises ModelError."""
    import onnx

    from thalweg.models.speech.fastconformer.onnx_graphs import encoder_graph, joint_graph, prediction_graph
    from thalweg.models.speech.mel import mel_filters

    config, weights = checkpoint.config, checkpoint.weights
    lookahead = min(config.lookaheads, key=lambda r: (r == 0, r))
    if lookahead_ms is not None:
        lookahead = lookahead_frames(config, lookahead_ms)
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {"encoder": encoder_graph}
    if config.rnnt:
        graphs |= {"prediction": prediction_graph, "joint": joint_graph}
    for name, build in graphs.items():
        onnx.save(build(config, weights, int8), str(folder / f"{name}.onnx"))
    filters = weights.get("mel_filters", mel_filters(config.mel))
    np.save(folder / "filters.npy", filters)
    said = {
        "format": FORMAT,
        "lookahead": lookahead,
        "int8": int8,
        "config": config.as_dict(),
        "tokens": {"pieces": checkpoint.tokens.pieces, "characters": checkpoint.tokens.characters},
    }
    (folder / DESCRIPTION).write_text(json.dumps(said, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return Deployed(folder, config, checkpoint.tokens, lookahead, int8, filters)


def keep_weights(checkpoint: NemoCheckpoint, folder: Path) -> None:
    """Put the weights beside the graphs, as float16: half the size, and 1e-3 of each value is more than rounding."""
    kept = {name: value.astype(np.float16) for name, value in checkpoint.weights.items() if name != "mel_filters"}
    np.savez_compressed(folder / WEIGHTS, **kept)  # type: ignore[arg-type]  # its stub takes no arrays by name
