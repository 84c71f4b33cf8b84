"""How the bundled weights were made: data generators, training and export, one package per model.

Recipes may need torch and programs of the system (`thalweg[train]`, espeak-ng, flite). What runs in a pipeline
imports none of them.
"""
