"""Is an exported checkpoint still what was certified? Files, loading, biases, and the comparison with the method in memory again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detox.detoxifiers.exporting import DETOXIFIER
from detox.detoxifiers.registry import load
from detox.errors import DataError, DetoxError, InputError, MissingData, NotExportable
from detox.models import LanguageModel
from detox.models.chat_templates import first_difference
from detox.models.comparing import BOUNDS, file_hashes, reload_strictly, silent_sites
from detox.models.export import CERTIFICATE, FORMAT, change_of, compared

VERIFIED, FAILED, NOT_VERIFIED = "verified", "FAILED", "not verified"
# What a certificate must hold to be asked again, and of which type.
_NEEDED: dict[str, Any] = {
    "files": dict, "dtype": str, "biases": list, "prompt_ids": list, "base": dict, "strength": int | float, "semantics": str,
    "system_text": str | None,
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that was asked of a checkpoint.

    Attributes:
        name: what was asked.
        outcome: "verified", "FAILED" or "not verified".
        detail: what was seen, or why it could not be asked; one line.
    """

    name: str
    outcome: str
    detail: str


@dataclass
class Verification:
    """All checks of a checkpoint, in order; a failure ends them."""

    directory: str
    checks: list[Check] = field(default_factory=list)

    @property
    def failure(self) -> Check | None:
        """The check that failed, or None."""
        return next((check for check in self.checks if check.outcome == FAILED), None)


def verify(
    directory: str | Path,
    *,
    base: str | Path | None = None,
    detoxifier: str | Path | None = None,
    device: str | None = None,
) -> Verification:
    """Repeat what can be repeated of an export's certificate.

    The certificate is no signature: whoever changes weights and hashes alike is found out only by the comparison, which needs the
    base model.

    Args:
        directory: what `export` wrote.
        base: the base model; None takes the path that the certificate holds.
        detoxifier: the saved detoxifier; None takes the copy beside the checkpoint.
        device: where the models run; None takes a GPU if there is one.

    Raises:
        MissingData: no such folder, or none with a certificate; a base or detoxifier that was named and is not there.
        InputError: a base that was named and is not that of the export.
    """
    path = Path(directory) / CERTIFICATE
    if not path.is_file():
        raise MissingData(f"no {CERTIFICATE} in {directory}; expected a folder that `export` wrote")
    result = Verification(str(directory))
    for check in _checks(path.parent, base, detoxifier, device):
        result.checks.append(check)
        if check.outcome == FAILED:
            break
    return result


def _checks(
    folder: Path, base: str | Path | None, detoxifier: str | Path | None, device: str | None
) -> Iterator[Check]:
    try:
        certificate = _read(folder / CERTIFICATE)
    except DataError as error:
        yield Check("certificate", FAILED, str(error))
        return
    yield _files(folder, certificate)
    try:
        again = reload_strictly(folder, dtype=certificate["dtype"], device=device)
        yield Check("loads", VERIFIED, f"{type(again.model).__name__}, no key missing or unexpected")
        silent = silent_sites(again.model, [name.removesuffix(".bias") for name in certificate["biases"]])
    except (NotExportable, AttributeError) as error:
        yield Check("loads", FAILED, str(error))
        return
    if silent:
        yield Check("biases", FAILED, f"{silent[0]} has no bias, or one of zeros, and the edit was folded into it")
    elif certificate["biases"]:
        yield Check("biases", VERIFIED, f"{len(certificate['biases'])} are there and not zero")
    yield _comparison(folder, certificate, again, base, detoxifier)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error}); export again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path}:1: expected a certificate of format {FORMAT}; export again")
    for key, kind in _NEEDED.items():
        if key not in found or not isinstance(found[key], kind):
            raise DataError(f"{path}:1: {key!r} of the certificate is missing or of another type; export again")
    if not {"path", "revision", "fingerprint"} <= found["base"].keys():
        raise DataError(f"{path}:1: 'base' of the certificate lacks its path, revision or fingerprint; export again")
    if found["dtype"] not in {str(dtype).removeprefix("torch.") for dtype in BOUNDS}:
        raise DataError(
            f"{path}:1: 'dtype' of the certificate is {found['dtype']!r}, which no export has; export again"
        )
    if not all(isinstance(name, str) for name in found["biases"]):
        raise DataError(f"{path}:1: 'biases' of the certificate holds what is no name; export again")
    rows = found["prompt_ids"]
    if not rows or not all(isinstance(row, str) and row.split() and row.replace(" ", "").isdecimal() for row in rows):
        raise DataError(f"{path}:1: 'prompt_ids' of the certificate are not rows of token ids; export again")
    return found


def _files(folder: Path, certificate: dict[str, Any]) -> Check:
    # What begins with a dot comes from hubs and version control, and no loader reads it.
    now = {name: sha for name, sha in file_hashes(folder, without=CERTIFICATE).items() if not name.startswith(".")}
    was: dict[str, str] = certificate["files"]
    for name in sorted(was.keys() | now.keys()):
        if now.get(name) != was.get(name):
            how = "is missing" if name not in now else "was added" if name not in was else "was changed"
            return Check("files", FAILED, f"{name} {how} after the export; export again, or restore it")
    return Check("files", VERIFIED, f"{len(was)} are those of the export (SHA-256)")


def _comparison(
    folder: Path,
    certificate: dict[str, Any],
    again: LanguageModel,
    base: str | Path | None,
    detoxifier: str | Path | None,
) -> Check:
    name = "comparison"
    recorded = certificate["base"]
    weights, *others = str(recorded["fingerprint"]).split(":")
    if others != ["-", "-"]:
        return Check(
            name, NOT_VERIFIED, "it was exported from another method's handle, which cannot be put together again here"
        )
    where = base or recorded["path"]
    if where is None:
        return Check(name, NOT_VERIFIED, "the base model had no name; give --base")
    kept = detoxifier or (folder / DETOXIFIER if certificate.get("detoxifier") else None)
    if kept is None:
        return Check(name, NOT_VERIFIED, "the detoxifier is not beside the checkpoint; give --detoxifier")
    try:
        lm = LanguageModel.from_pretrained(
            where,
            revision=None if base else recorded["revision"],
            dtype=certificate["dtype"],
            device=again.model.device,
        )
        fitted = load(kept)
    except DetoxError as error:
        if base or detoxifier:
            raise
        return Check(name, NOT_VERIFIED, f"{error}; give --base and --detoxifier")
    now = lm.fingerprint().split(":")[0]
    if now != weights:
        seen = f"{where} has weights {now[:12]}, the export's base had {weights[:12]}"
        if base:
            raise InputError(f"--base: {seen}; give the model that was exported from")
        return Check(name, NOT_VERIFIED, f"{seen}; give --base")
    with fitted.applied(lm, strength=certificate["strength"]) as safe:
        if certificate["system_text"]:
            if safe.system != certificate["system_text"]:
                return Check(
                    name,
                    FAILED,
                    "the detoxifier puts another system text before conversations than the certificate says",
                )
            difference = first_difference(safe, again.tokenizer)
            if difference is not None:
                return Check(name, FAILED, f"the chat template is not that of the handle: {difference}")
        try:
            change = change_of(safe, approximate=certificate["semantics"] == "approximate")
            rows = [[int(i) for i in ids.split()] for ids in certificate["prompt_ids"]]
            known = again.model.get_input_embeddings().num_embeddings
            if max(max(row) for row in rows) >= known:
                return Check(
                    name,
                    FAILED,
                    f"'prompt_ids' of the certificate names tokens beyond the model's {known}; export again",
                )
            found = compared(safe, again, change, rows)
        except NotExportable as error:
            return Check(name, FAILED, str(error))
    return Check(
        name,
        VERIFIED,
        f"{found['semantics']}, logits differ by up to {found['max_logit_difference']:.3g}, {found['greedy_agreement']:.2%} of "
        f"greedy tokens are equal, over {found['prompts']} prompts in {certificate['dtype']}",
    )
