"""Networks, their loaders, the model store, and the recipes that train them. Imports nothing else of ours."""
