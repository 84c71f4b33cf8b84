"""Programs of the privacy test, on hosts of a lab: `talk` at the edge, `serve` in fog and cloud, `listen` to the wire.

    talk FOG CLOUD FAULT…   conversations at once, one per fault; then prints what was said that should not have been
    speak FOG CLOUD FAULT…  the same of questions that are private, heard word by word, with a draft of each
    serve                   a model server at port 8000 that fails as the model's name says, until its input ends
    listen                  everything that comes to or leaves this host, until its input ends

`serve` and `listen` print in the end which words they met, and how often; `listen` also how many connections were made
to the server here, and how many bytes were sent over them.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import sys
from types import SimpleNamespace
from typing import Any

from tests.stages.language.pool.test_pool_servers import CANARIES, POLICY, Conversation
from tests.stages.language.test_chat import Ask
from thalweg.deploy.bench.language.modelserver import Json, ModelServer, Plan
from thalweg.pipeline.payload import Transcript
from thalweg.pipeline.stage import Context

PORT = 8000
PUBLIC = "What is the capital of France?"
WORDS = ("Xyzzy", "Quetzalcoatl", "4111", "what else")
"""Canaries, and what was said behind them. `France` was said before them."""
FOGGY = "Is the canary Plugh well?"
PATIENT = {"private": ["Quetzalcoatl"], "hedge_after": "300ms", "probe_every": "0s", "connect_within": "5s"}
AT_ONCE = 12
_ETHERNET_ALL = 3
_SYN, _ACK = 2, 16


async def talk(fog: str, cloud: str, faults: list[str]) -> None:
    """A canary of each kind in a conversation of its own, with every fault; and one that may go as far as the fog."""
    servers = [SimpleNamespace(url=f"http://{address}:{PORT}/v1") for address in (cloud, fog)]
    wrong: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def converse(fault: str, questions: list[str], policy: dict[str, Any], fog_fault: str) -> None:
        conversation = Conversation(*servers)  # type: ignore[arg-type]  # all of a server that it uses
        conversation.policy = POLICY | PATIENT | policy
        conversation.members = {"cloud": {"model": fault}, "house": {"model": fog_fault}}
        if policy.get("privacy") != "fog":
            conversation.members["pocket"] = {"backend": "echo", "where": "edge", "quality": 0.1}
        async with turn:
            await conversation.ask(*questions)
        if len(conversation.said) != len(questions):
            wrong.append(f"{fault}: {len(conversation.said)} of {len(questions)} turns were answered")

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            for canary in CANARIES:
                group.create_task(converse(fault, [PUBLIC, canary, "And what else?"], {}, fault))
            group.create_task(converse(fault, [FOGGY], {"privacy": "fog", "first_text_within": "20s"}, "none"))
    print(json.dumps(wrong), flush=True)


class Growing(Ask):
    """Each question word by word, then a pause in which it may be over, then its end."""

    async def run(self, ctx: Context) -> None:
        """See `Stage`."""
        for question in self.questions:
            words, epoch = question.split(), ctx.new_epoch()
            for heard in range(1, len(words) + 1):
                text, trial = " ".join(words[:heard]), heard == len(words)
                await ctx.send(Transcript(text=text, final=False, trial=trial), time=ctx.now_ns(), epoch=epoch)
                await asyncio.sleep(0.1)
            await ctx.send(Transcript(text=question, final=True), time=ctx.now_ns(), epoch=epoch)


async def speak(fog: str, cloud: str, faults: list[str]) -> None:
    """Connections are made with the first words, and nothing is said over them."""
    servers = [SimpleNamespace(url=f"http://{address}:{PORT}/v1") for address in (cloud, fog)]
    wrong: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def converse(fault: str, canary: str) -> None:
        conversation = Conversation(*servers)  # type: ignore[arg-type]  # all of a server that it uses
        conversation.policy, conversation.source = POLICY | PATIENT, Growing
        conversation.chat_settings = {"prefill": True, "draft": True}
        conversation.members = {name: {"model": fault, "cost": 1} for name in ("cloud", "house")}
        conversation.members["pocket"] = {"backend": "echo", "where": "edge", "quality": 0.1}
        async with turn:
            await conversation.ask(canary, "And what else?")
        if conversation.said != [canary, "And what else?"] or not conversation.counts["warmed_cloud"]:
            wrong.append(f"{fault}: {conversation.said}, {dict(conversation.counts)}")

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            for canary in CANARIES:
                group.create_task(converse(fault, canary))
    print(json.dumps(wrong), flush=True)


async def serve() -> None:
    """See above."""

    def plan(asked: Json) -> Plan:
        return Plan(["Paris ", "lies ", "on ", "the ", "river ", "Seine ", "in ", "France."], asked["model"], 5)

    async with ModelServer(plan=plan, host="0.0.0.0", port=PORT) as server:  # of a namespace of its own
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(json.dumps(_met(bytes(server.heard)) | {"questions": len(server.asked)}), flush=True)


def listen() -> None:
    """Words may be cut where packets are: the bytes of each direction of each connection are put together, too."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERNET_ALL))
    wire.bind(("net0", 0))
    print("ready", flush=True)
    flows: dict[bytes, dict[int, bytes]] = {}
    packets, connections, sent, whole = 0, 0, 0, bytearray()
    while True:
        readable, _, _ = select.select([wire, sys.stdin], [], [])
        if wire in readable:
            packet = wire.recv(1 << 16)
            packets += 1
            whole += packet + b"\n"
            head = (packet[0] & 15) * 4
            if packet[9] == socket.IPPROTO_TCP:
                data = head + (packet[head + 12] >> 4) * 4
                number = int.from_bytes(packet[head + 4 : head + 8], "big")
                flow = flows.setdefault(packet[12:20] + packet[head : head + 4], {})
                flow[number] = max(flow.get(number, b""), packet[data:], key=len)
                if int.from_bytes(packet[head + 2 : head + 4], "big") == PORT:
                    connections += packet[head + 13] & (_SYN | _ACK) == _SYN
                    sent += len(packet) - data
        elif sys.stdin in readable:
            break
    for flow in flows.values():
        whole += b"\n" + b"".join(flow[number] for number in sorted(flow))
    found = {"packets": packets, "connections": connections, "sent": sent}
    print(json.dumps(_met(bytes(whole)) | found), flush=True)


def _met(data: bytes) -> dict[str, int]:
    return {word: data.count(word.encode()) for word in (*WORDS, "Plugh", "France")}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["talk", fog_address, cloud_address, *names]:
            asyncio.run(talk(fog_address, cloud_address, names))
        case ["speak", fog_address, cloud_address, *names]:
            asyncio.run(speak(fog_address, cloud_address, names))
        case ["serve"]:
            asyncio.run(serve())
        case ["listen"]:
            listen()
