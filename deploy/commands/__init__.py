"""The commands of `thalweg`, one module each; those for deployments that stay are in `keeping`."""
