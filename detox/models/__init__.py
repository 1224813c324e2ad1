"""Everything that touches a transformer: the handle, its two rulers, activations."""

from detox.models.announcements import Announcement
from detox.models.edits import Edit, LogitsEdit, Receipt
from detox.models.generation import Completion, generate
from detox.models.language_model import LanguageModel
from detox.models.likelihood import greedy_logprobs, token_logprobs
from detox.models.sampling import Sampling

__all__ = [
    "Announcement",
    "Completion",
    "Edit",
    "LanguageModel",
    "LogitsEdit",
    "Receipt",
    "Sampling",
    "generate",
    "greedy_logprobs",
    "token_logprobs",
]
