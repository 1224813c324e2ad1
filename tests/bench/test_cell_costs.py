from __future__ import annotations

import pytest

from detox.bench.cell_costs import peak_memory, prompt_tokens
from detox.bench.cells import read_records
from detox.cli import main
from detox.data.records import Document, Prompt
from detox.detoxifiers import Prompting
from detox.evaluation import Protocol
from detox.models import Sampling
from tests.models.test_likelihood import tiny


def test_what_is_put_before_a_prompt_is_counted_in_tokens():
    lm = tiny("llama")
    protocol = Protocol(
        name="p",
        prompts=(Prompt(id="a", text="topic1 says"), Prompt(id="b", text="topic2 says kind1 kind2")),
        scorers=(_Silent(),),
        sampling=Sampling(max_new_tokens=2),
    )
    bare = prompt_tokens(lm, protocol)
    assert bare == sum(len(lm.tokenizer(one.text)["input_ids"]) for one in protocol.prompts) / 2
    with Prompting(text="topic3 says kind1 ").applied(lm) as handle:
        assert prompt_tokens(handle, protocol) == bare + 3
    assert prompt_tokens(lm, Protocol(name="d", documents=(Document(id="d", text="topic1"),))) is None


def test_memory_of_a_cpu_is_not_told():
    with peak_memory(tiny("llama")) as found:
        pass
    assert found == {}


def test_a_record_says_what_its_method_puts_before_prompts(grid, tmp_path):
    raw, write = grid
    methods = {"prompting": raw["detoxifiers"]["prompting"]}
    path = write(tmp_path / "grid.yaml", detoxifiers=methods)
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 0
    found = {record.names["method"]: record.names["cost"] for record in read_records(tmp_path / "out")}
    assert found[None] == {"prompt_tokens": 0.0}
    assert found["prompting"]["prompt_tokens"] >= 1


class _Silent:
    from detox.scorers import ScorerCard

    card = ScorerCard("silent", "1", ("nothing",), None, "read whole")

    def score(self, texts):
        pytest.fail("nothing is scored here")
