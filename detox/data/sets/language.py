"""Grammar (BLiMP) and words (lexicons of abuse)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import LexiconTerm, MinimalPair

PARADIGM_NAMES = """
adjunct_island anaphor_gender_agreement anaphor_number_agreement animate_subject_passive animate_subject_trans
causative complex_NP_island coordinate_structure_constraint_complex_left_branch
coordinate_structure_constraint_object_extraction determiner_noun_agreement_1 determiner_noun_agreement_2
determiner_noun_agreement_irregular_1 determiner_noun_agreement_irregular_2 determiner_noun_agreement_with_adj_2
determiner_noun_agreement_with_adj_irregular_1 determiner_noun_agreement_with_adj_irregular_2
determiner_noun_agreement_with_adjective_1 distractor_agreement_relational_noun
distractor_agreement_relative_clause drop_argument ellipsis_n_bar_1 ellipsis_n_bar_2
existential_there_object_raising existential_there_quantifiers_1 existential_there_quantifiers_2
existential_there_subject_raising expletive_it_object_raising inchoative intransitive
irregular_past_participle_adjectives irregular_past_participle_verbs irregular_plural_subject_verb_agreement_1
irregular_plural_subject_verb_agreement_2 left_branch_island_echo_question left_branch_island_simple_question
matrix_question_npi_licensor_present npi_present_1 npi_present_2 only_npi_licensor_present only_npi_scope passive_1
passive_2 principle_A_c_command principle_A_case_1 principle_A_case_2 principle_A_domain_1 principle_A_domain_2
principle_A_domain_3 principle_A_reconstruction regular_plural_subject_verb_agreement_1
regular_plural_subject_verb_agreement_2 sentential_negation_npi_licensor_present sentential_negation_npi_scope
sentential_subject_island superlative_quantifiers_1 superlative_quantifiers_2 tough_vs_raising_1
tough_vs_raising_2 transitive wh_island wh_questions_object_gap wh_questions_subject_gap
wh_questions_subject_gap_long_distance wh_vs_that_no_gap wh_vs_that_no_gap_long_distance wh_vs_that_with_gap
wh_vs_that_with_gap_long_distance
"""


def read_blimp(rows: Iterable[Row]) -> Iterator[MinimalPair]:
    """One of 13 phenomena; the paradigm is in the id, `blimp-<paradigm>-<number>`."""
    for row in rows:
        yield MinimalPair(id=row["id"], good=row["good"], bad=row["bad"], phenomenon=row["phenomenon"])


def read_blimp_hub(rows: Iterable[Row]) -> Iterator[MinimalPair]:
    """One configuration a paradigm; `linguistics_term` is the phenomenon."""
    for number, row in enumerate(rows):
        yield MinimalPair(
            id=f"blimp-{row['UID']}-{number}",
            good=row["sentence_good"],
            bad=row["sentence_bad"],
            phenomenon=row["linguistics_term"],
        )


def read_lexicons(rows: Iterable[Row]) -> Iterator[LexiconTerm]:
    """Terms of four lists; what `score` means depends on the list."""
    for number, row in enumerate(rows):
        yield LexiconTerm(
            id=f"{row['source']}-{number}",
            text=row["term"],
            source=row["source"],
            severity=row["score"],
            category=row["category"],
        )


SETS = (
    DataSet(
        name="blimp",
        kind="minimal-pairs",
        licence="CC BY 4.0",
        note="The 67 paradigms; the file has 28 to 51 pairs of each, the hub 1,000.",
        file=LocalFile("blimp.jsonl.gz", "5b099cb5751c2e7bcdf1e2f6d091b4e9cab3dc7df1670c8b9dc52aa237af5a7d"),
        columns=("id", "phenomenon", "good", "bad"),
        read=read_blimp,
        hub=HubSource(
            id="nyu-mll/blimp",
            revision="877fba0801ffb7cbd8c39c1ff314a46f053f6036",
            configs=tuple(PARADIGM_NAMES.split()),
            columns=("sentence_good", "sentence_bad", "linguistics_term", "UID"),
            read=read_blimp_hub,
            confirmed="lm-eval blimp; public code that pins this commit",
        ),
        evaluation=True,
    ),
    DataSet(
        name="lexicons",
        kind="lexicon",
        licence="LDNOOBW CC BY 4.0; surge MIT; Wiegand CC BY 4.0",
        note="surge: severity 1 to 3; wiegand_base: 1 abusive, 0 not; wiegand_expanded: SVM distance, abusive above 0.",
        file=LocalFile("lexicons.jsonl.gz", "583f806c16dffc050254c28a12ebab1c5641f92f503444535c467b980cd60e70"),
        columns=("term", "source", "score", "category"),
        read=read_lexicons,
    ),
)
