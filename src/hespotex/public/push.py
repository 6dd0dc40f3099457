"""A model made ready for others: the file without counts of its training, a card that a hub reads, the licences."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hespotex.encoders.registry import list_encoders
from hespotex.errors import ConfigError, ModelFileError, RunError
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.progress import Progress, heard
from hespotex.public.hub import at_the_hub
from hespotex.public.names import HubName, remote_name
from hespotex.report.model_card import render_model_card
from hespotex.storage.atomic import atomic_folder
from hespotex.storage.disk_room import in_words

# No derivatives: what was fitted on such an encoder's features must not be shared.
_NO_DERIVATIVES: Final = re.compile(r"\bnd\b|no[- ]?deriv", re.IGNORECASE)
_HUB_LICENCE: Final = re.compile(r"[a-z][a-z0-9.-]*")  # as a hub names licences
_UNKNOWN: Final = frozenset({"", "not stated", "see its page", "as its maker states"})
_NEAREST: Final = "nearest."  # arrays of `Trust` that hold measured counts of training spots


@dataclass(frozen=True)
class Licences:
    """What a published model says of rights.

    Attributes:
        model: of the model file, as the hub writes it (`cc-by-4.0`).
        data: of the training data.
        encoder: of the encoder's weights; None takes what its publisher states.
    """

    model: str
    data: str
    encoder: str | None = None


def prepare(
    model: Path,
    folder: Path,
    licences: Licences,
    *,
    keep_counts: bool = False,
    address: str = "hf://OWNER/REPOSITORY",
) -> Path:
    """Write the folder that a repository of a hub gets: the model, and README.md.

    Args:
        model: a model file.
        folder: made anew, whole or not at all.
        address: of the repository, for the card.
        licences: all have to be known.
        keep_counts: keep the measured counts of some training spots, which only the baseline of the
            nearest patches in `evaluate` uses.

    Raises:
        ModelFileError: the encoder's licence forbids that weights derived from it are shared.
        ConfigError: a licence is not stated.
        RunError: something lies in the folder, or it cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RunError(
            expected=f"a new folder at {folder}",
            found="one that holds something" if folder.is_dir() else "a file",
            remedy="choose another one: nothing of yours is replaced",
        )
    bundle = read_model(model)
    encoder = _encoder_licence(bundle, licences)
    for what, text in (("model", licences.model), ("training data", licences.data)):
        if not text.strip():
            raise ConfigError(expected=f"the licence of the {what}", found="none")
    shared = bundle if keep_counts else _without_counts(bundle)
    with atomic_folder(folder) as temporary:
        temporary.mkdir()
        write_model(temporary / model.name, shared)
        card = (
            _front(licences.model) + _rights(licences, encoder, address) + render_model_card(shared)
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def push(
    model: Path, target: str, folder: Path, licences: Licences, *, keep_counts: bool = False,
    private: bool = False, progress: Progress = None,
) -> str:  # fmt: skip
    """Put a model into a repository of the hub; it is made where there is none.

    Args:
        target: `hf://org/repo[@revision]`.
        folder: what is sent, as `prepare` writes it; stays.
        private: whether a new repository is seen by its owners alone.
        progress: who hears how much is sent, as of `hespotex.train`.

    Returns:
        The address under which everybody gets this very model.

    Raises:
        ModelFileError: the hub refuses, or a licence does.
        ConfigError: the target is no repository.
    """
    where = remote_name(target)
    if not isinstance(where, HubName) or where.file is not None:
        raise ConfigError(expected="hf://org/repo[@revision] to push to", found=f"{target!r}")
    address = f"hf://{where.repository}"
    prepare(model, folder, licences, keep_counts=keep_counts, address=address)
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    page = f"https://huggingface.co/{where.repository}"
    size = sum(path.stat().st_size for path in folder.iterdir())
    heard(progress).say(f"sending {in_words(size)} to {target}")
    before = are_progress_bars_disabled()
    disable_progress_bars()  # the client's own bars break the lines of an error
    try:
        with at_the_hub(f"to push to {target}", ModelFileError, page=page):
            api = HfApi(endpoint=constants.ENDPOINT)
            api.create_repo(where.repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=where.repository,
                folder_path=folder,
                revision=where.revision,
                commit_message=f"{model.name}, model {read_model(folder / model.name).model_id}",
            )
    finally:
        if not before:
            enable_progress_bars()
    return f"hf://{where.repository}@{done.oid}"


def _without_counts(bundle: Bundle) -> Bundle:
    kept = {name: a for name, a in bundle.trust.items() if not name.startswith(_NEAREST)}
    return replace(bundle, trust=kept)


def _encoder_licence(bundle: Bundle, licences: Licences) -> str:
    name = bundle.encoder.name
    listed = {
        info.name: info.licence for info in list_encoders(lazyslide=name.startswith("lazyslide:"))
    }
    stated = licences.encoder or listed.get(name, "")
    if stated.strip().lower() in _UNKNOWN:
        raise ConfigError(
            expected=f"the licence of the encoder {name}",
            found="none that its publisher states in a list",
            remedy="read its page and give --encoder-licence",
        )
    # What a list says counts beside what the user says: a licence is not changed by naming another.
    for text in (stated, listed.get(name, "")):
        if _NO_DERIVATIVES.search(text):
            raise ModelFileError(
                expected="an encoder whose licence lets derived weights be shared",
                found=f"{name} under {text}",
                remedy="share it with nobody, or train with another encoder (`hespotex encoders --all`)",
            )
    return stated


def _front(licence: str) -> str:
    """What a hub reads before the text: YAML between two lines of dashes."""
    known = _HUB_LICENCE.fullmatch(licence) is not None
    lines = ["---", f"license: {licence if known else 'other'}"]
    if not known:  # in words of its own: quoted as JSON, which YAML reads
        lines.append(f"license_name: {json.dumps(licence)}")
    tags = ("hespotex", "spatial-transcriptomics", "histology", "gene-expression")
    lines += ["library_name: hespotex", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join([*lines, "---", "", ""])


def _rights(licences: Licences, encoder: str, address: str) -> str:
    return (
        f"Licence of this model: {licences.model}. Licence of its training data: {licences.data}. "
        f"Licence of its encoder's weights, which are not in the file: {encoder}. For research use.\n\n"
        f"    hespotex predict {address} slide.svs --out predicted\n\n"
    )
