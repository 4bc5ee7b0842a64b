"""Checkpoints: model, optimizer and the facts of a run, saved in the background, restored anywhere.

`checkpoints` is the front; `writing` and `reading` do one checkpoint each, on the planner and
storage of torch.distributed.checkpoint; `folder` knows the names, `manifest` what a checkpoint
holds and whether it is still what was written, `team` how the ranks agree.
"""

from crore.train.checkpoint.checkpoints import Checkpoints, Facts, SaveFailed

__all__ = ["Checkpoints", "Facts", "SaveFailed"]
