"""A model made ready for others: the file without counts of its training, a card that a hub reads, the licences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hespotex.encoders.hub import first_cause, is_offline
from hespotex.encoders.registry import list_encoders
from hespotex.errors import ConfigError, HESpotExError, ModelFileError
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.public.names import HubName, remote_name
from hespotex.report.model_card import render_model_card
from hespotex.storage.atomic import atomic_folder
from hespotex.storage.disk_errors import cause_of

# No derivatives: what was fitted on such an encoder's features must not be shared.
_NO_DERIVATIVES: Final = re.compile(r"\bnd\b|no[- ]?deriv", re.IGNORECASE)
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


def prepare(model: Path, folder: Path, licences: Licences, *, keep_counts: bool = False) -> Path:
    """Write the folder that a repository of a hub gets: the model, and README.md.

    Args:
        model: a model file.
        folder: made anew, whole or not at all.
        licences: all have to be known.
        keep_counts: keep the measured counts of some training spots, which only the baseline of the
            nearest patches in `evaluate` uses.

    Raises:
        ModelFileError: the encoder's licence forbids that weights derived from it are shared.
        ConfigError: a licence is not stated.
    """
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
            _front(shared, licences.model) + _rights(licences, encoder) + render_model_card(shared)
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def push(
    model: Path, target: str, folder: Path, licences: Licences, *, keep_counts: bool = False,
    private: bool = False,
) -> str:  # fmt: skip
    """Put a model into a repository of the hub; it is made where there is none.

    Args:
        target: `hf://org/repo[@revision]`.
        folder: what is sent, as `prepare` writes it; stays.
        private: whether a new repository is seen by its owners alone.

    Returns:
        The address under which everybody gets this very model.

    Raises:
        ModelFileError: the hub refuses, or a licence does.
        ConfigError: the target is no repository.
    """
    where = remote_name(target)
    if not isinstance(where, HubName) or where.file is not None:
        raise ConfigError(expected="hf://org/repo[@revision] to push to", found=f"{target!r}")
    prepare(model, folder, licences, keep_counts=keep_counts)
    from huggingface_hub import HfApi, constants

    with _sending(target):
        api = HfApi(endpoint=constants.ENDPOINT)
        api.create_repo(where.repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=where.repository,
            folder_path=folder,
            revision=where.revision,
            commit_message=f"{model.name}, model {read_model(folder / model.name).model_id}",
        )
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


def _front(bundle: Bundle, licence: str) -> str:
    """What a hub reads before the text: YAML between two lines of dashes."""
    known: Mapping[str, object] = {
        "license": licence,
        "library_name": "hespotex",
        "tags": ["hespotex", "spatial-transcriptomics", "histology", "gene-expression"],
    }
    lines = ["---"]
    for key, value in known.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {item}" for item in value)]
        else:
            lines.append(f"{key}: {value}")
    return "\n".join([*lines, "---", "", ""])


def _rights(licences: Licences, encoder: str) -> str:
    return (
        f"Licence of this model: {licences.model}. Licence of its training data: {licences.data}. "
        f"Licence of its encoder's weights, which are not in the file: {encoder}. For research use.\n\n"
        f"    hespotex predict hf://OWNER/REPOSITORY slide.svs --out predicted\n\n"
    )


@contextmanager
def _sending(target: str) -> Iterator[None]:
    """What the hub's client says when it cannot send becomes one line."""
    expected = f"to push to {target}"
    if is_offline():
        raise ModelFileError(
            expected=expected, found="HF_HUB_OFFLINE, which forbids it", remedy="unset it"
        )
    try:
        yield
    except HESpotExError:
        raise
    except Exception as error:
        raise ModelFileError(
            expected=expected,
            cause=cause_of(first_cause(error)),
            remedy="log in with a token that may write (`hf auth login`), check the network, and run again",
        ) from error
