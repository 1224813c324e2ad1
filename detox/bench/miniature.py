"""Bases and scorer of the miniature, as a grid names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from detox.bench.bases import Progress
from detox.errors import UnknownName, require_known


@dataclass(frozen=True, kw_only=True)
class MiniatureCorpus:
    """A base of the miniature: `pretrain: {data: miniature, arm: full}`.

    Attributes:
        arm: one of `detox.pretraining.ARMS`.
        seed: of the corpus and the weights.
        size: "demo", or "test" for a model that trains in seconds.
        share: part of all tokens that stands in toxic threads; None for the demo's.
        hold: "clean" or "total"; None for the demo's, "clean".
        condition: "inst": documents begin with how toxic they are.
        passes: how often the mixture is read; None for the demo's number of steps.
    """

    arm: str
    seed: int = 0
    size: Literal["demo", "test"] = "demo"
    share: float | None = None
    hold: str | None = None
    condition: str | None = None
    passes: float | None = None

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MiniatureCorpus:
        """Read the `pretrain:` entry of a grid.

        Raises:
            UnknownName: a key, an arm or a size that is not known.
        """
        from detox.miniature.bases import CONDITIONS
        from detox.pretraining import ARMS

        known = [f.name for f in fields(MiniatureCorpus)]
        for key in values:
            if key not in (*known, "data"):
                raise UnknownName("pretrain key", key, known)
        require_known("arm", values.get("arm"), ARMS)
        if values.get("condition") not in (None, *CONDITIONS):
            raise UnknownName("condition of the miniature", str(values["condition"]), CONDITIONS)
        if values.get("size", "demo") not in ("demo", "test"):
            raise UnknownName("size", str(values["size"]), ("demo", "test"))
        return MiniatureCorpus(**{key: value for key, value in values.items() if key != "data"})

    def _asked(self) -> dict[str, Any]:
        """What was asked for; what was not has the demo's value."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def identity(self) -> dict[str, Any]:
        """Everything that makes another model."""
        from detox.miniature import base_identity

        return {"kind": "miniature", **self._asked(), **base_identity(**self._asked())}

    def build(self, folder: Path, progress: Progress) -> None:
        """Pretrain into `folder`."""
        from detox.miniature import train_base

        train_base(output_dir=folder, progress=progress, **self._asked())
