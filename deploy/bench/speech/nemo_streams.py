"""NeMo's own pipeline for many streams, in `thalweg bench asr streams`: features, caches, RNN-T, its bookkeeping.

It is configured as its examples for cache-aware recognition are, for a processor in float32 and without what follows
recognition (inverse normalisation, translation).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.stopwatch import Stopwatch, Taken

_BATCH = 256


def settings(model: Path, head: str, attention: list[int], slots: int) -> dict[str, Any]:
    """The configuration of a pipeline over a `.nemo` file; `attention`: frames it looks back and ahead."""
    return {
        "log_level": 50,
        "matmul_precision": "high",
        "pipeline_type": "cache_aware",
        "asr_decoding_type": head,
        "asr": {
            "model_name": str(model),
            "device": "cpu",
            "device_id": 0,
            "compute_dtype": "float32",
            "use_amp": False,
            "decoding": {
                "strategy": "greedy_batch",
                "preserve_alignments": False,
                "fused_batch_size": -1,
                "greedy": {"max_symbols": 10, "loop_labels": True, "use_cuda_graph_decoder": False},
            },
        },
        "confidence": {
            "exclude_blank": True,
            "aggregation": "mean",
            "method_cfg": {"name": "entropy", "entropy_type": "tsallis", "alpha": 0.5, "entropy_norm": "exp"},
        },
        "enable_itn": False,
        "enable_nmt": False,
        "itn": {"batch_size": _BATCH, "n_jobs": 1, "left_padding_size": 4},
        "endpointing": {"stop_history_eou": 800, "residue_tokens_at_end": 2},
        "streaming": {
            "sample_rate": 16_000,
            "batch_size": _BATCH,
            "num_slots": slots,
            "word_boundary_tolerance": 4,
            "att_context_size": attention,
            "use_cache": True,
            "use_feat_cache": True,
            "chunk_size_in_secs": None,
            "request_type": "frame",
        },
        "asr_output_granularity": "segment",
        "return_tail_result": False,
    }


class NemoStreams:
    """The pipeline of one `.nemo` file. NeMo may raise any exception."""

    def __init__(self, model: Path, head: str, left: int, lookahead: int, most: int) -> None:
        """`head`: rnnt or ctc; `left`, `lookahead`: frames; `most`: streams that there is room for."""
        import torch
        from nemo.collections.asr.inference.factory.pipeline_builder import PipelineBuilder
        from omegaconf import OmegaConf

        torch.set_num_threads(1)
        self._torch = torch
        self._pipeline: Any = PipelineBuilder.build_pipeline(
            OmegaConf.create(settings(model, head, [left, lookahead], max(most, _BATCH)))
        )

    def serve(self, audio: NDArray[np.float32], streams: int, count: int) -> list[Taken]:
        """Each of `count` rounds in which every stream gets `audio`, one chunk of it, in batches."""
        from nemo.collections.asr.inference.streaming.framing.request import Frame
        from nemo.collections.asr.inference.streaming.framing.request_options import ASRRequestOptions

        samples = self._torch.from_numpy(audio)
        options = ASRRequestOptions()
        taken = []
        self._pipeline.open_session()
        for turn in range(count):
            clock = Stopwatch()
            for first in range(0, streams, _BATCH):
                ids = range(first, min(streams, first + _BATCH))
                self._pipeline.transcribe_step(
                    [Frame(samples=samples, stream_id=i, is_first=turn == 0, options=options) for i in ids]
                )
            taken.append(clock.taken())
        self._pipeline.close_session()
        return taken
