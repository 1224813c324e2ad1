"""check_detoxifier: the nine points of the contract, run on a class of yours.

    from detox import check_detoxifier
    print(check_detoxifier(MyDetoxifier()))

Each point is a function below; its docstring is the promise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detox.data.contrasts import Contrast
from detox.detoxifiers import conformance_points as points
from detox.detoxifiers.conformance_case import Case
from detox.detoxifiers.contract import Detoxifier
from detox.detoxifiers.planted import plant
from detox.errors import ConformanceError, DetoxError
from detox.models import LanguageModel

POINTS: dict[int, tuple[str, Callable[[Case], str | None]]] = {
    1: ("fit returns self, keeps its settings, is asked for, forgets", points.fit_is_clean),
    2: ("the base comes back as it was", points.base_is_restored),
    3: ("strength 0 is the base bit for bit, another is not", points.zero_is_identity),
    4: ("batch, padding side, cache and teacher forcing agree", points.computations_agree),
    5: ("save, load and apply are equal; another base is refused", points.artefact_is_faithful),
    6: ("same seed, same result; methods nest", points.repeats_and_nests),
    7: ("a hook that never fired is an error", points.silence_is_an_error),
    8: ("toxic continuations lose against safe ones", points.direction_is_right),
    9: ("a stale handle is refused; suspended() is the base", points.handles_are_true),
}


@dataclass(frozen=True)
class Point:
    """One point of the contract and how it went: "kept", "broken" or "excluded" (with the reason)."""

    number: int
    promise: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.number}. {self.outcome:8s} {self.promise}" + (f" - {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class ConformanceReport:
    """All points, in order."""

    method: str
    family: str
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.method} on {self.family}", *map(str, self.points)])


def check_detoxifier(
    detoxifier: Detoxifier,
    lm: LanguageModel | None = None,
    contrasts: Sequence[Contrast] | None = None,
    *,
    family: str = "llama",
    dtype: str = "float32",
    only: Sequence[int] | None = None,
) -> ConformanceReport:
    """Run the contract on a detoxifier.

    Args:
        detoxifier: an instance with the hyperparameters to test; it is copied, never fitted itself.
        lm: model for points 1 to 7 and 9; None builds a tiny one with a planted toxic direction, as point 8 always does.
        contrasts: to fit on, with `lm`.
        family: of the planted model; one of `detox.detoxifiers.planted.FAMILIES`.
        dtype: of the planted model's weights.
        only: numbers of the points to run; None for all.

    Returns:
        What was kept, and what was excluded with the reason.

    Raises:
        ConformanceError: listing every broken point.
    """
    planted = plant(family, dtype=dtype)
    case_lm = planted.lm if lm is None else lm
    case_contrasts = planted.contrasts if contrasts is None or lm is None else list(contrasts)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="detox-conformance-") as folder:
        for number, (promise, check) in POINTS.items():
            if only is not None and number not in only:
                continue
            case = Case(detoxifier, case_lm, case_contrasts, planted, Path(folder) / str(number))
            try:
                excluded = check(case)
            except DetoxError as error:  # whatever else the method raises is its own bug, with its own traceback
                outcomes.append(Point(number, promise, "broken", str(error)))
            else:
                outcomes.append(Point(number, promise, "excluded" if excluded else "kept", excluded or ""))
    report = ConformanceReport(type(detoxifier).__name__, case_lm.model.config.model_type, tuple(outcomes))
    if any(point.outcome == "broken" for point in outcomes):
        raise ConformanceError(str(report))
    return report
