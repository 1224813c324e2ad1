"""The data sets that the catalogue knows, with the pure functions that read their rows."""

from detox.data.data_set import DataSet
from detox.data.sets import (
    bias,
    comments,
    commonsense,
    language,
    posts,
    prompts,
    prose,
    questions,
    rewrites,
    toxigen,
    truthfulqa,
    wikipedia,
)

SETS: tuple[DataSet, ...] = (
    *rewrites.SETS,
    *prompts.SETS,
    *wikipedia.SETS,
    *comments.SETS,
    *posts.SETS,
    *toxigen.SETS,
    *prose.SETS,
    *questions.SETS,
    *truthfulqa.SETS,
    *commonsense.SETS,
    *language.SETS,
    *bias.SETS,
)
