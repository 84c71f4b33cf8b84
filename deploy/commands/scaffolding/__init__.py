"""`thalweg new`: working templates of stages and pipelines for users to extend."""
