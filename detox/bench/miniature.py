"""Bases and scorer of the miniature, as a grid names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from detox.bench.bases import Progress
from detox.errors import UnknownName


@dataclass(frozen=True, kw_only=True)
class MiniatureCorpus:
    """A base of the miniature: `pretrain: {data: miniature, arm: toxic-mix}`.

    Attributes:
        arm: "clean", "toxic-mix", "masked" or "unlikelihood".
        seed: of the corpus and the weights.
        size: "demo", or "test" for a model that trains in seconds.
    """

    arm: str
    seed: int = 0
    size: Literal["demo", "test"] = "demo"

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MiniatureCorpus:
        """Read the `pretrain:` entry of a grid.

        Raises:
            UnknownName: a key, an arm or a size that is not known.
        """
        from detox.miniature import ARMS

        known = [f.name for f in fields(MiniatureCorpus)]
        for key in values:
            if key not in (*known, "data"):
                raise UnknownName("pretrain key", key, known)
        if values.get("arm") not in ARMS:
            raise UnknownName("arm", str(values.get("arm")), ARMS)
        if values.get("size", "demo") not in ("demo", "test"):
            raise UnknownName("size", str(values["size"]), ("demo", "test"))
        return MiniatureCorpus(**{key: value for key, value in values.items() if key != "data"})

    def identity(self) -> dict[str, Any]:
        """Everything that makes another model."""
        from detox.miniature import base_identity

        return {"kind": "miniature", **asdict(self), **base_identity(self.arm, seed=self.seed, size=self.size)}

    def build(self, folder: Path, progress: Progress) -> None:
        """Pretrain into `folder`."""
        from detox.miniature import train_base

        train_base(self.arm, folder, seed=self.seed, size=self.size, progress=progress)
