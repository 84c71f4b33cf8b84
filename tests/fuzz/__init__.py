"""Fuzzing of everything that reads bytes from elsewhere: `python -m tests.fuzz TARGET --count 1000000 --seed 1`.

`targets.py` says what is fuzzed and how inputs of its shape are made, `mutation.py` how they are damaged, `engine.py`
what is looked for: exceptions that no decoder may raise, texts without bound or fit to command a terminal, hangs,
memory that grows. `corpus/` holds small inputs that once went somewhere new, found by the engine.
"""
