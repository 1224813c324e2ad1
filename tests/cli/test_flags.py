"""Fields of dataclasses as command-line flags."""

from __future__ import annotations

import pytest

from detox.cli.flags import parse
from detox.detoxifiers import find, names


@pytest.mark.parametrize("name", names())
def test_every_methods_settings_are_flags(name):
    (made,) = parse([find(name)], ["--text", "be kind"] if name == "prompting" else ["--strength", "2.5"])
    assert made.default_strength == (1.0 if name == "prompting" else 2.5)
