"""ToxiGen's machine-made statements about groups of people, rated by people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import LabelledText, joined_groups
from detox.data.sets.posts import HATE
from detox.data.sets.prompts import TOXIGEN_REVISION

TOXIGEN_FILE = LocalFile(
    "toxigen_statements.jsonl.gz", "bbeb2a65d2fedab2b8eada4009921d4a440be25b21eac2c3eb600a35cf0e96be"
)


def read_toxigen_groups(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """As `read_toxigen`; group: the people that a statement is about, several joined by "+"."""
    for row in rows:
        yield replace(_toxigen(row), group=joined_groups(row["target_groups"]))


def read_toxigen(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Score: people's 1 to 5, moved to [0, 1]."""
    for row in rows:
        yield _toxigen(row)


def _toxigen(row: Row) -> LabelledText:
    score = (row["toxicity_score_1to5"] - 1.0) / 4.0
    return LabelledText(id=row["id"], text=row["text"], label=HATE[row["label"]], score=score)


def read_toxigen_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Label by lm-eval's rule: people's and the model's rating add up to more than 5.5."""
    for number, row in enumerate(rows):
        human = row["toxicity_human"]
        yield LabelledText(
            id=f"toxigen-{row['_split']}-{number}",
            text=row["text"],
            label=int(row["toxicity_ai"] + human > 5.5),
            score=min(max((human - 1.0) / 4.0, 0.0), 1.0),
        )


SETS = (
    DataSet(
        name="toxigen_statements",
        kind="labelled",
        licence="MIT (ToxiGen, through microsoft/SafeNLP)",
        note="Machine-made statements rated by people; on the hub the label follows lm-eval's rule.",
        file=TOXIGEN_FILE,
        columns=("id", "text", "label", "toxicity_score_1to5"),
        read=read_toxigen,
        hub=HubSource(
            id="toxigen/toxigen-data",
            revision=TOXIGEN_REVISION,
            configs=("annotated",),
            split="train",
            heldout_split="test",
            columns=("text", "toxicity_ai", "toxicity_human"),
            read=read_toxigen_hub,
            confirmed="hub card; lm-eval toxigen.yaml (skg/toxigen-data, its former owner)",
        ),
    ),
    DataSet(
        name="toxigen_groups",
        kind="labelled",
        licence="MIT (ToxiGen, through microsoft/SafeNLP)",
        note="The statements of toxigen_statements with the 13 groups of people that they are about, several joined by +.",
        file=TOXIGEN_FILE,
        columns=("id", "text", "label", "toxicity_score_1to5", "target_groups"),
        read=read_toxigen_groups,
    ),
)
