"""Incremental aggregation and fusion in numpy give what the networks in torch give, after every unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import require_package
from thalweg.models.errors import ModelError
from thalweg.models.senses.incremental import Aggregation, Aggregator, FusionHead

pytestmark = pytest.mark.real

PARTS = st.tuples(*[st.booleans()] * 5)


@settings(max_examples=40, deadline=None)
@given(parts=PARTS, n=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_answer_after_any_prefix_is_the_batch_form_of_that_prefix(
    parts: tuple[bool, ...], n: int, seed: int
) -> None:
    require_package("torch", "train")
    import torch

    from thalweg.models.senses.aggregation import AggregationConfig, TemporalAggregation

    torch.manual_seed(seed)
    net = TemporalAggregation(AggregationConfig(16, *parts)).eval()
    aggregation = Aggregation({k: v.numpy() for k, v in net.state_dict().items()}, shift=parts[0])
    x = torch.randn(1, n, 16)
    aggregator = Aggregator(aggregation)
    for t in range(n):
        aggregator.push(x[0, t].numpy())
        with torch.no_grad():
            wanted = net(x[:, : t + 1])[0].numpy()
        np.testing.assert_allclose(aggregator.answer(), wanted, atol=1e-5)
        np.testing.assert_allclose(aggregation.batch(x[0, : t + 1].numpy()), wanted, atol=1e-5)


def test_asking_in_between_changes_no_later_answer_and_a_restored_one_goes_on_alike() -> None:
    require_package("torch", "train")
    from thalweg.models.senses.aggregation import AggregationConfig, TemporalAggregation

    net = TemporalAggregation(AggregationConfig(16)).eval()
    aggregation = Aggregation({k: v.numpy() for k, v in net.state_dict().items()})
    asked, quiet, moved = Aggregator(aggregation), Aggregator(aggregation), Aggregator(aggregation)
    for x in np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32):
        asked.push(x)
        asked.answer()
        quiet.push(x)
        moved.restore(asked.snapshot())
    np.testing.assert_array_equal(asked.answer(), quiet.answer())
    np.testing.assert_array_equal(moved.answer(), quiet.answer())


def test_there_is_no_answer_before_the_first_unit() -> None:
    weights = {f"head{x}.{p}": np.ones((16, 16) if p == "weight" else 16, np.float32)
               for x in ("", "_out") for p in ("weight", "bias")}  # fmt: skip
    with pytest.raises(ModelError, match="before the first unit"):
        Aggregator(Aggregation(weights)).answer()


@pytest.mark.parametrize("present", [("a", "b", "c"), ("a", "c"), ("b",)])
def test_fusion_in_numpy_is_fusion_in_torch_whichever_modalities_are_there(present: tuple[str, ...]) -> None:
    require_package("torch", "train")
    import torch

    from thalweg.models.senses.aggregation import Fusion

    torch.manual_seed(1)
    net = Fusion(("a", "b", "c"), 16, 5)
    head = FusionHead({k: v.detach().numpy() for k, v in net.state_dict().items()}, ("a", "b", "c"))
    pooled = {m: torch.randn(1, 16) for m in present}
    with torch.no_grad():
        wanted = net(pooled)[0].numpy()
    np.testing.assert_allclose(head({m: x[0].numpy() for m, x in pooled.items()}), wanted, atol=1e-5)
