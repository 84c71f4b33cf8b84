"""A vision-language model as the viewer, behind any OpenAI-compatible address."""

from __future__ import annotations

import base64
import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import ThalwegError

_TELL = "Answer with nothing but the answer, in as few characters as possible. If it cannot be seen, say: unreadable."
_TIMEOUT_S = 120.0


class VisionModelError(ThalwegError):
    """A vision model that cannot be asked, or answers something that is no answer."""


class VisionModel:
    """Asks about pictures. The address must take `/chat/completions` with pictures as PNG in data URLs."""

    def __init__(self, url: str, model: str, key: str = "none") -> None:
        self.name = f"{model} at {url}"
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._key = key

    def ask(self, question: str, pictures: Sequence[NDArray[np.uint8]]) -> tuple[str, float]:
        """What it answers, and how sure it is 0…1: the mean chance of its tokens where the server tells them.

        Without them 1, and 0 of an answer that says it cannot be read. Raises VisionModelError.
        """
        shown = [{"type": "image_url", "image_url": {"url": _as_url(picture)}} for picture in pictures]
        content = [*shown, {"type": "text", "text": f"{question} {_TELL}"}]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 32,
            "temperature": 0,
            "logprobs": True,
        }
        answer = self._post(body)
        try:
            choice = answer["choices"][0]
            said = str(choice["message"]["content"] or "").strip()
            tokens = (choice.get("logprobs") or {}).get("content") or []
            chances = [math.exp(float(token["logprob"])) for token in tokens]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise VisionModelError(f"{self.name} sent something that is not an answer: {error!r}") from None
        if not said or "unreadable" in said.lower():
            return said, 0.0
        return said, min(1.0, sum(chances) / len(chances)) if chances else 1.0

    def _post(self, body: dict[str, Any]) -> Any:  # Any: JSON
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            said = error.read(200).decode(errors="replace")
            raise VisionModelError(f"{self.name} refused with status {error.code}: {said}") from None
        except (OSError, ValueError) as error:
            raise VisionModelError(f"{self.name} cannot be asked: {error}") from None


def _as_url(picture: NDArray[np.uint8]) -> str:
    import cv2

    done, png = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert done
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
