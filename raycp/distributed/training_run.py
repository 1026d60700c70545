"""What a training leaves in its run directory, by name."""

CONFIG = "train.json"
"""The resolved configuration and what identifies the training."""
MODELS = "models"
"""One directory per stage, complete once it is there."""
LOG = "log.jsonl"
"""A line every few seconds, and one at the end of each stage."""
