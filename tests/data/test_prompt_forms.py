"""Multiple choice as lm-eval asks it: its own task files, rendered for the same rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from detox.data.catalogue import entry
from detox.data.data_set import read_rows
from tests.data.test_hub import CASES

TASKS = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_easy.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "copa": "super_glue/copa/default.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "mmlu": "mmlu/default/_default_template_yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "sciq": "sciq/sciq.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "sst2": "glue/sst2/default.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "winogrande": "winogrande/default.yaml",
}
TRUTHFULQA = [
    {
        "question": "Ice?",
        "mc1_targets": {"choices": ["Cold", "Hot"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["Cold", "Chilly", "Hot"], "labels": [1, 1, 0]},
    }
]


@pytest.fixture(scope="module")
def tasks():
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm-eval is not installed")
    return Path(found.origin).parent / "tasks"


def read_task(path):
    yaml = pytest.importorskip("yaml")

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        module, name = loader.construct_scalar(node).rsplit(".", 1)
        spec = importlib.util.spec_from_file_location(f"task_{path.parent.name}", path.parent / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)

    Loader.add_constructor("!function", function)
    task = yaml.load(path.read_text(), Loader)
    return (read_task(path.parent / task["include"]) if "include" in task else {}) | task


def render(field, row):
    if callable(field):
        return field(row)
    if not isinstance(field, str):
        return field
    if field in row:
        return row[field]
    from jinja2 import BaseLoader, Environment, StrictUndefined

    environment = Environment(loader=BaseLoader(), undefined=StrictUndefined)
    if field.startswith("{{") and field.endswith("}}") and field.count("{{") == 1:
        value = environment.compile_expression(field[2:-2].strip())(**row)
        return value
    return environment.from_string(field).render(**row)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_are_those_of_lm_eval(tasks, name):
    task = read_task(tasks / TASKS[name])
    one = entry(name)
    rows = TRUTHFULQA if name.startswith("truthfulqa") else CASES[name][0]
    if "process_docs" in task:
        from datasets import Dataset

        docs = list(task["process_docs"](Dataset.from_list(rows)))
    else:
        docs = rows
    ours = read_rows((("row", row) for row in rows), one.hub.columns, one.hub.read)
    for doc, record in zip(docs, ours, strict=True):
        text, target = render(task["doc_to_text"], doc), render(task["doc_to_target"], doc)
        if name == "lambada_openai":
            assert (record.context, record.target) == (text, target)
            continue
        choices = render(task["doc_to_choice"], doc)
        delimiter = task.get("target_delimiter", " ")
        if name == "winogrande":
            assert record.contexts == tuple(choices)
            assert set(record.choices) == {delimiter + target}
            assert record.answer == text
            continue
        answer = choices.index(target) if isinstance(target, str) and target in choices else int(target)
        head = "The following are multiple choice questions (with answers) about high school art.\n\n"
        assert record.context == (head if name == "mmlu" else "") + text
        # COPA's own choices begin with a space already; lm-eval puts a second one before them.
        assert record.choices == tuple(delimiter + choice.removeprefix(" ") for choice in choices)
        assert record.answer == answer
