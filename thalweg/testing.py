"""The test kit for authors: one stage, or a whole graph, under a virtual clock. See `thalweg.deploy.testing`."""

from thalweg.deploy.testing import DeadlockError, Emitted, Outcome, VirtualLoop, packet, run_stage, run_virtual

__all__ = ["DeadlockError", "Emitted", "Outcome", "VirtualLoop", "packet", "run_stage", "run_virtual"]
