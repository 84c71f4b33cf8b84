"""Training a small streaming FastConformer on synthesized speech: `README.md` says how.

Text, voices, sound and network, each a module; `python -m thalweg.models.recipes.asr` runs them. Nothing here is needed
to run a model.
"""
