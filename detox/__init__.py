"""detox makes language models less toxic after pretraining, and shows by measurement what that costs.

The public names are loaded when they are first used: `import detox` alone pulls in neither torch nor anything heavier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "LanguageModel": "detox.models",
    "Sampling": "detox.models",
    "Completion": "detox.models",
    "generate": "detox.models",
    "token_logprobs": "detox.models",
    "Contrast": "detox.data.contrasts",
    "Detoxifier": "detox.detoxifiers",
    "Prompting": "detox.detoxifiers",
    "ITI": "detox.detoxifiers",
    "SFT": "detox.detoxifiers",
    "DPO": "detox.detoxifiers",
    "ContrastivePerplexity": "detox.detoxifiers",
    "load": "detox.detoxifiers",
    "check_detoxifier": "detox.detoxifiers",
    "selective_loss": "detox.losses",
    "fused_selective_loss": "detox.fused_loss",
    "contrastive_perplexity_loss": "detox.contrastive_loss",
    "Protocol": "detox.evaluation",
    "evaluate": "detox.evaluation",
    "compare": "detox.bench",
    "load_protocol": "detox.bench",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from detox.bench import compare as compare
    from detox.bench import load_protocol as load_protocol
    from detox.contrastive_loss import contrastive_perplexity_loss as contrastive_perplexity_loss
    from detox.data.contrasts import Contrast as Contrast
    from detox.detoxifiers import DPO as DPO
    from detox.detoxifiers import ITI as ITI
    from detox.detoxifiers import SFT as SFT
    from detox.detoxifiers import ContrastivePerplexity as ContrastivePerplexity
    from detox.detoxifiers import Detoxifier as Detoxifier
    from detox.detoxifiers import Prompting as Prompting
    from detox.detoxifiers import check_detoxifier as check_detoxifier
    from detox.detoxifiers import load as load
    from detox.evaluation import Protocol as Protocol
    from detox.evaluation import evaluate as evaluate
    from detox.fused_loss import fused_selective_loss as fused_selective_loss
    from detox.losses import selective_loss as selective_loss
    from detox.models import Completion as Completion
    from detox.models import LanguageModel as LanguageModel
    from detox.models import Sampling as Sampling
    from detox.models import generate as generate
    from detox.models import token_logprobs as token_logprobs


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'detox' has no attribute {name!r}")
    try:  # a name that is not listed may be a detoxifier: its file is all that it needs
        value = getattr(importlib.import_module(_HOMES.get(name, "detox.detoxifiers")), name)
    except AttributeError:
        raise AttributeError(f"module 'detox' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
