"""LiteLLM's side of `bench handoff deaths`; runs with LiteLLM's own Python, needs nothing of ours.

Its router with two deployments, the second one the fallback of the first; a token is waited for as long as a first
one in the other systems. The first question, which takes up what is loaded then, is not measured. Arguments: the
addresses of both, how many questions at a time, the wait in s, whether it may go on with a stream that broke off
(`enable_mid_stream_fallback_continuation`, by default off; 0 or 1), a file of questions.
"""

import asyncio
import importlib.metadata
import json
import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # makes no network request

import litellm
from litellm import Router

litellm.suppress_debug_info = True
litellm.telemetry = False


def deployment(name, url):
    return {
        "model_name": name,
        "litellm_params": {"model": "openai/m", "api_base": url, "api_key": "none"},
        "model_info": {"supports_assistant_prefill": True},
    }


async def ask(router, question, turn):
    async with turn:
        began, tokens, problem = time.monotonic(), [], ""
        try:
            stream = await router.acompletion(
                model="cloud", messages=[{"role": "user", "content": question}], stream=True, max_tokens=200
            )
            async for chunk in stream:
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    tokens.append((1e3 * (time.monotonic() - began), text))
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:100]}"
        return {"tokens": tokens, "problem": problem}


async def main(cloud, house, at_once, wait_s, continues, questions):
    router = Router(
        model_list=[deployment("cloud", cloud), deployment("house", house)],
        fallbacks=[{"cloud": ["house"]}],
        num_retries=0,
        disable_cooldowns=True,
        enable_mid_stream_fallback_continuation=continues == "1",
        stream_timeout=float(wait_s),
    )
    turn = asyncio.Semaphore(int(at_once))
    await ask(router, "#0 none 5", turn)
    found = await asyncio.gather(*(ask(router, question, turn) for question in questions))
    print(json.dumps({"version": importlib.metadata.version("litellm"), "found": found}))


with open(sys.argv[6], encoding="utf-8") as file:
    asyncio.run(main(*sys.argv[1:6], json.load(file)))
