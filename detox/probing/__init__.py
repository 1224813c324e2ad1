"""What a model knows: linear probes on every head at once, and what tells two models' heads apart."""

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
