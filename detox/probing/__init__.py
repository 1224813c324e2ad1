"""What a model knows: linear probes on every head at once."""

from detox.probing.linear import HeadProbes, fit_head_probes, grouped_split

__all__ = ["HeadProbes", "fit_head_probes", "grouped_split"]
