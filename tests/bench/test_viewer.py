"""Questions with checkable answers, and a vision model as the one who answers them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from tests.conftest import TEXT_READER, require_package

for module in ("av", "cv2", TEXT_READER, "skimage"):
    require_package(module, "bench")

from thalweg.deploy.bench.video import viewer  # noqa: E402
from thalweg.deploy.bench.video.scenes import Question, compose  # noqa: E402
from thalweg.deploy.bench.video.visionmodel import VisionModel, VisionModelError  # noqa: E402

PICTURE = np.full((40, 60, 3), 200, np.uint8)


class Stub:
    """A server that takes down what it is asked and answers what it was told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Any = {}
        self.status = 200
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.asked.append({"path": self.path, "key": self.headers["Authorization"], **json.loads(body)})
                self.send_response(stub.status)
                self.end_headers()
                self.wfile.write(json.dumps(stub.answer).encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def says(self, text: str, *logprobs: float) -> None:
        tokens = [{"token": "x", "logprob": value} for value in logprobs]
        logged = {"content": tokens} if tokens else None
        self.answer = {"choices": [{"message": {"content": text}, "logprobs": logged}]}


@pytest.fixture
def stub() -> Iterator[Stub]:
    found = Stub()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_a_vision_model_gets_the_question_and_the_picture_and_says_how_sure_it_is(stub: Stub) -> None:
    stub.says("GATE A12", np.log(0.5), np.log(0.7))
    said, sure = VisionModel(stub.url, "seer", "secret").ask("What does it say?", [PICTURE])
    assert (said, sure) == ("GATE A12", pytest.approx(0.6))
    (asked,) = stub.asked
    shown, words = asked["messages"][0]["content"]
    assert (asked["path"], asked["key"], asked["model"]) == ("/v1/chat/completions", "Bearer secret", "seer")
    assert words["text"].startswith("What does it say?")
    assert base64.b64decode(shown["image_url"]["url"].partition(",")[2]).startswith(b"\x89PNG")


@pytest.mark.parametrize(("text", "sure"), [("GATE", 1.0), ("unreadable", 0.0), ("", 0.0)])
def test_without_chances_it_is_sure_unless_it_says_otherwise(stub: Stub, text: str, sure: float) -> None:
    stub.says(text)
    assert VisionModel(stub.url, "seer").ask("What?", [PICTURE]) == (text, sure)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{"message": None}]}, [], "no"])
def test_what_is_no_answer_is_named(stub: Stub, answer: Any) -> None:
    stub.answer = answer
    with pytest.raises(VisionModelError, match="not an answer"):
        VisionModel(stub.url, "seer").ask("What?", [PICTURE])


def test_a_refusal_and_a_server_that_is_not_there_are_named(stub: Stub) -> None:
    stub.status, stub.answer = 400, {"error": "no pictures"}
    with pytest.raises(VisionModelError, match=r"status 400.*no pictures"):
        VisionModel(stub.url, "seer").ask("What?", [PICTURE])
    with pytest.raises(VisionModelError, match="cannot be asked"):
        VisionModel("http://127.0.0.1:9/v1", "seer").ask("What?", [PICTURE])


@pytest.mark.parametrize(
    ("kind", "answer", "said", "right"),
    [
        ("text", "GATE A12", "It says “Gate A12”.", True),
        ("text", "GATE A12", "GATE A1", False),
        ("count", "4", "There are four red dots.", True),
        ("count", "4", "4", True),
        ("count", "4", "3 or 4", False),
        ("colour", "red", "The disc is red.", True),
        ("colour", "red", "red or blue", False),
        ("direction", "left", "To the left", True),
        ("direction", "left", "left or right", False),
    ],
)
def test_a_model_named_in_the_environment_answers_instead_of_our_own(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, kind: str, answer: str, said: str, right: bool
) -> None:
    monkeypatch.setenv(viewer.VISION, stub.url)
    viewer.vision.cache_clear()
    stub.says(said)
    question = Question(kind, "What?", answer, ((0.0, 0.0, 1.0, 1.0, 1.0),) * 9)
    assert viewer.answers(question, dict.fromkeys(range(9), PICTURE), 6)[0] is right
    monkeypatch.delenv(viewer.VISION)
    viewer.vision.cache_clear()


def test_scenes_ask_for_text_a_colour_a_number_and_a_direction_and_our_viewer_sees_them() -> None:
    clip = compose(1, seconds=1.0)
    right = {question.kind: viewer.answers(question, dict(enumerate(clip.frames)), 6)[0] for question in clip.questions}
    assert right == {"text": True, "colour": True, "count": True, "direction": True}
