"""Fine-tuning: conversations, then preferences, on a model of Hugging Face's layout.

The model, its adapters and its 4-bit weights are transformers', peft's and bitsandbytes'; what is
crore's own is the data, the loop that resumes, and when it stops.
"""

from crore.train.tune.conversations import Conversation, Pair, read_conversations, read_pairs
from crore.train.tune.loop import Outcome, tune
from crore.train.tune.settings import METHODS, STAGES, Tuning

__all__ = [
    "METHODS",
    "STAGES",
    "Conversation",
    "Outcome",
    "Pair",
    "Tuning",
    "read_conversations",
    "read_pairs",
    "tune",
]
