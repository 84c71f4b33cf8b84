"""Patch relevance, on a small network of the same form: it embeds patches by their mean colour and words by a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package
from thalweg.models import ModelError
from thalweg.models.vision.clip import PatchRelevance
from thalweg.stages.vision.relevance import Clip

for module in ("cv2", "onnxruntime", "onnx", "tokenizers"):
    require_package(module, "dev")
SIDE, PATCHES = 56, 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A patch embedding is the patch's mean colour; "red" and "blue" are embedded as those colours."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    kernel = SIDE // PATCHES
    picture = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    patches = helper.make_tensor_value_info("patches", TensorProto.FLOAT, [1, PATCHES * PATCHES, 3])
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["mean"], kernel_shape=[kernel] * 2, strides=[kernel] * 2),
        helper.make_node("Reshape", ["mean", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["patches"], perm=[0, 2, 1]),
    ]
    shape = numpy_helper.from_array(np.array([1, 3, -1], np.int64), "shape")
    graph = helper.make_graph(nodes, "visual", [picture], [patches], [shape])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "visual.onnx")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "words"])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, 3])
    table = numpy_helper.from_array(np.array([[0, 0, 0], [2, -1, -1], [-1, -1, 2]], np.float32), "table")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axes"], ["vector"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "text", [ids], [vector], [table, axes])
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "text.onnx")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "blue": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def picture() -> np.ndarray:  # type: ignore[type-arg]
    shown = np.full((280, 560, 3), 120, np.uint8)
    shown[0:40, 0:80] = (250, 0, 0)
    shown[200:240, 400:480] = (0, 0, 250)
    return shown


@pytest.mark.parametrize(("words", "x"), [("the red one", 0.0), ("something blue", 400.0)])
def test_the_patch_that_is_near_the_words_is_found(folder: Path, words: str, x: float) -> None:
    model = PatchRelevance(folder)
    model.hear(words)
    best = model.find(picture())[0]
    assert best.x == pytest.approx(x, abs=1) and best.width == pytest.approx(80, abs=1)


def test_before_any_words_nothing_is_near(folder: Path) -> None:
    assert PatchRelevance(folder).find(picture()) == []


def test_an_even_picture_has_no_part_that_stands_out(folder: Path) -> None:
    model = PatchRelevance(folder)
    model.hear("red")
    assert model.find(np.zeros((50, 50, 3), np.uint8)) == []


def test_a_policy_looks_again_only_when_it_is_time(folder: Path) -> None:
    policy = Clip(folder, every_ns=500)
    policy.hear("red")
    assert policy.boxes(picture(), 0) is not None
    assert policy.boxes(picture(), 499) is None
    assert policy.boxes(picture(), 500) is not None


def test_a_folder_without_the_model_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no visual\.onnx"):
        PatchRelevance(tmp_path)
