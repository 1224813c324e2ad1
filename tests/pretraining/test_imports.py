import subprocess
import sys

import pytest

import detox.pretraining

_LIGHT = """
import sys
from detox.pretraining import Mixture, PretrainingRecipe, pack, tokenize_documents, train_tokenizer
PretrainingRecipe()
print([name for name in ("accelerate", "datasets", "peft", "trl", "sklearn") if name in sys.modules])
"""


def test_what_prepares_data_loads_nothing_that_trains():
    found = subprocess.run([sys.executable, "-c", _LIGHT], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_is_there_and_no_other():
    for name in detox.pretraining.__all__:
        value = getattr(detox.pretraining, name)
        assert isinstance(value, tuple) or value.__name__ == name  # ARMS has no name of its own
    assert sorted(detox.pretraining._HOMES) == sorted(detox.pretraining.__all__) == dir(detox.pretraining)
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        _ = detox.pretraining.pretrian
