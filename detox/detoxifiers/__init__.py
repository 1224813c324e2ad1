"""What makes a model safer: one file a method, one contract, one suite that proves it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from detox.detoxifiers.contract import Capabilities, Certificate, Detoxifier
from detox.detoxifiers.registry import find, load, make, names

_CHECKS = ("check_detoxifier", "ConformanceReport")

__all__ = [
    "DPO", "ITI", "SFT", "Capabilities", "Certificate", "ContrastivePerplexity", "Detoxifier", "Prompting", "find", "load", "make",
    "names", *_CHECKS,
]  # fmt: skip

if TYPE_CHECKING:
    from detox.detoxifiers.conformance import ConformanceReport as ConformanceReport
    from detox.detoxifiers.conformance import check_detoxifier as check_detoxifier
    from detox.detoxifiers.contrastive_perplexity import ContrastivePerplexity as ContrastivePerplexity
    from detox.detoxifiers.dpo import DPO as DPO
    from detox.detoxifiers.iti import ITI as ITI
    from detox.detoxifiers.prompting import Prompting as Prompting
    from detox.detoxifiers.sft import SFT as SFT


def __getattr__(name: str) -> Any:
    # A method's class is found by its file, so that adding a method is adding a file.
    if name in _CHECKS:
        return getattr(importlib.import_module(f"{__name__}.conformance"), name)
    file = next((one for one in names() if one.replace("_", "") == name.lower()), None)
    if file is not None and (found := find(file)).__name__ == name:
        return found
    raise AttributeError(f"module 'detox.detoxifiers' has no attribute {name!r}")
