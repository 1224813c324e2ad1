"""What a model knows: linear probes on every head at once, and what tells two models' heads apart.

from detox import LanguageModel
from detox.data import load
from detox.probing.run import probe_bases
from detox.probing.texts import probe_texts

texts = probe_texts(load("toxigen_groups"))
sides, comparisons = probe_bases({"clean": ["runs/clean"], "masked": ["runs/masked"]}, texts, "runs/probe")
"""

from detox.probing.distributions import HeadComparison, HeadTest, compare_head_distributions
from detox.probing.linear import HeadProbes, fit_head_probes, grouped_split

__all__ = [
    "HeadComparison",
    "HeadProbes",
    "HeadTest",
    "compare_head_distributions",
    "fit_head_probes",
    "grouped_split",
]
