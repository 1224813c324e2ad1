"""The ruler: protocols, toxicity, utility, understanding. It measures language models and knows nothing of detoxifiers."""

from detox.evaluation.harness import evaluate
from detox.evaluation.protocol import ProbeTask, Protocol, Recognition
from detox.evaluation.scorecard import Scorecard

__all__ = ["ProbeTask", "Protocol", "Recognition", "Scorecard", "evaluate"]
