"""The question in the words that a server takes: which parameters, which roles, how a begun reply is gone on with.

Pure. It begins with what most servers take, and learns from refusals, once each:

    a refusal (4xx) that speaks of      from then on
    max_completion_tokens               that, in place of max_tokens
    temperature                         none is sent
    the system role, or of roles        what it says stands before the first question
    logprobs                            none are asked for
    images (of a question with one)     none are sent: it is told in words what was seen
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from thalweg.models.language.backend import Message, Request
from thalweg.models.language.surrogates import repaired

_GO_ON = (
    "Your last reply was cut off. Go on exactly where it stops, in the middle of the sentence if need be. "
    "Repeat nothing, and do not comment on this."
)
_LESSONS = {
    "max": re.compile(r"max_completion_tokens"),
    "temperature": re.compile(r"temperature"),
    "system": re.compile(r"system.{0,20}role|role.{0,20}system|roles must alternate|developer instruction"),
    "logprobs": re.compile(r"logprobs"),
}
_REFUSED = (400, 404, 422)
_NO_PICTURES = re.compile(r"image|vision|multi-?modal|content.{0,40}(?:must|should|expected).{0,20}string")
_PICTURE_REFUSED = (*_REFUSED, 415, 500, 501)  # llama.cpp and Ollama call it an error of their own


class Asking:
    """How one server is asked. `continues`: as in `Abilities`."""

    def __init__(self, continues: Literal["prefix", "instruct", "none"] = "none") -> None:
        self._continues = continues
        self._learned: set[str] = set()

    @property
    def blind(self) -> bool:
        """Whether the server has refused a picture."""
        return "pictures" in self._learned

    def adapts(self, status: int | None, said: str, *, pictured: bool = False) -> bool:
        """Learn from a refusal; True where asking again is worth it. `pictured`: a picture was sent."""
        words = said.lower()
        if pictured and not self.blind and status in _PICTURE_REFUSED and _NO_PICTURES.search(words):
            self._learned.add("pictures")
            return True
        if status not in _REFUSED:
            return False
        for lesson, sign in _LESSONS.items():
            if lesson not in self._learned and sign.search(words):
                self._learned.add(lesson)
                return True
        return False

    def body(self, model: str, request: Request) -> dict[str, Any]:  # Any: a value of the protocol
        """What is sent."""
        messages = [{"role": m.role, "content": self._content(m)} for m in self._messages(request)]
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
        body["max_completion_tokens" if "max" in self._learned else "max_tokens"] = request.max_tokens
        if "temperature" not in self._learned:
            body["temperature"] = request.temperature
        if request.logprobs and "logprobs" not in self._learned:
            body |= {"logprobs": True, "top_logprobs": 2}
        if request.prefix and self._continues == "prefix":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        picture = message.picture
        if picture is None or self.blind:
            return repaired(message.text)
        url = f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}"
        return [{"type": "text", "text": repaired(picture.text)}, {"type": "image_url", "image_url": {"url": url}}]

    def _messages(self, request: Request) -> Sequence[Message]:
        messages = list(request.messages)
        if "system" in self._learned and messages and messages[0].role == "system":
            system, *messages = messages
            at = next((i for i, m in enumerate(messages) if m.role == "user"), None)
            if at is None:
                messages.insert(0, Message("user", system.text))
            else:
                messages[at] = _led(system.text, messages[at])
        if request.prefix and self._continues != "none":
            messages.append(Message("assistant", request.prefix))
            if self._continues == "instruct":
                messages.append(Message("user", _GO_ON))
        return messages


def _led(before: str, message: Message) -> Message:
    """The same, with something before its words."""
    picture = message.picture
    if picture is not None:
        picture = replace(picture, text=f"{before}\n\n{picture.text}")
    return replace(message, text=f"{before}\n\n{message.text}", picture=picture)
