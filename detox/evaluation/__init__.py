"""The ruler: protocols, toxicity, utility, understanding. It measures language models and knows nothing of detoxifiers."""

from detox.evaluation.fluency import ReferenceModel
from detox.evaluation.harness import evaluate
from detox.evaluation.heads import compare_heads
from detox.evaluation.judges import Judge, PhraseJudge
from detox.evaluation.over_refusal import OverRefusalTask
from detox.evaluation.protocol import Protocol
from detox.evaluation.refusal_judge import RefusalJudge, RefusalPhrases
from detox.evaluation.scorecard import Scorecard
from detox.evaluation.tasks import HeadProbeTask, ProbeTask, Recognition, ReplyTask, RewriteTask, SafetyScoreTask

__all__ = [
    "HeadProbeTask",
    "Judge",
    "OverRefusalTask",
    "PhraseJudge",
    "ProbeTask",
    "Protocol",
    "Recognition",
    "ReferenceModel",
    "RefusalJudge",
    "RefusalPhrases",
    "ReplyTask",
    "RewriteTask",
    "SafetyScoreTask",
    "Scorecard",
    "compare_heads",
    "evaluate",
]
