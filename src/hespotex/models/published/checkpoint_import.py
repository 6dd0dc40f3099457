"""Reading a state dict trained with the reference implementation; reads one file.

The names stand in docs/design/method.md, "Graph decoder"; a checkpoint has further layers, which take
no part in the result.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hespotex.config import PublishedConfig
from hespotex.errors import ModelFileError
from hespotex.models.layers.graph_decoder import build_published_net
from hespotex.models.types import FittedModel
from hespotex.storage.disk_errors import DAMAGED, cause_of, remedy_of
from hespotex.storage.file_kinds import mistaken_kind

_OURS = {
    "latent_head.": "latent_head.",
    "gene_head.": "decoder.gene_head.",
    "image_decoder.": "decoder.graph_branch.layers.",
    "jknet.0.": "decoder.graph_branch.readout.lstm.",
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def import_checkpoint(
    path: Path | str, genes: Sequence[str], encoder_name: str, *, uses_nuclei: bool = True
) -> FittedModel:
    """Read the image stream of a reference checkpoint into a model of the published profile.

    The file is read without running code. Names that the forward pass does not use may be extra.
    A prefix common to all names (`module.`, `model.`) and one wrapping key (`state_dict`) are taken
    off; sizes of features and latent are the weights' own.

    Args:
        path: file that torch.save wrote from a state dict.
        genes: gene panel in the order of the checkpoint's outputs.
        encoder_name: encoder whose features it was trained on, kept with the model.
        uses_nuclei: whether it was trained with the nuclei factor, as the reference is.

    Raises:
        ModelFileError: the file is missing, no state dict, wants to run code, or tensors are missing,
            misshapen or not finite; one message lists them all.
    """
    state = _without_prefix(_read_state(Path(path)))
    found = {
        ours + name.removeprefix(theirs): value
        for name, value in state.items()
        for theirs, ours in _OURS.items()
        if name.startswith(theirs)
    }
    expected = _expected_shapes(found, len(genes))
    problems = [
        problem
        for name, shape in expected.items()
        if (problem := _problem(_their_name(name), found.get(name), shape))
    ]
    if problems:
        raise ModelFileError(
            expected=f"the reference's image stream for {len(genes)} genes in {path}",
            found=f"{len(problems)} wrong tensor{'s' * (len(problems) != 1)}: {'; '.join(problems)}",
            remedy="check that the file and the gene list belong together",
        )
    tensors = {name: found[name].numpy() for name in expected}
    config = PublishedConfig(latent_size=expected["latent_head.3.weight"][0])
    return FittedModel(
        profile="published",
        tensors=tensors,
        hyper={
            "uses_nuclei": uses_nuclei,
            "encoder": encoder_name,
            "imported": True,
            **config.model_dump(mode="json"),
        },
    )


def _remedy(error: Exception) -> str:
    """What to do: torch finds no central directory, which stands at the end of a file, where it is cut short."""
    cut = isinstance(error, EOFError) or "central directory" in str(error)
    return "it is cut short: copy it again" if cut else DAMAGED


def _read_state(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing"
        raise ModelFileError(
            expected=f"a checkpoint at {path}", found=f"{kind}: give a file of torch"
        )
    try:
        mistaken = mistaken_kind(path, but={"torch", "zip"})
        if mistaken is not None:
            raise ModelFileError(
                expected=f"a checkpoint of torch at {path}", **mistaken.fields(path)
            )
        with warnings.catch_warnings():
            # torch asks the user to report an issue, but refusing a foreign pickle is right.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            expected=f"plain tensors in {path}",
            found="a pickle that wants to run code or is none of torch's",
            remedy="it was not run: save model.state_dict() with torch.save and import that",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelFileError(
            expected=f"a checkpoint of torch in {path}",
            found=f"a file that cannot be read ({cause_of(error)}): {remedy_of(error) or _remedy(error)}",
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ModelFileError(
            expected=f"a state dict (names and tensors) in {path}",
            found=f"{type(content).__name__}: save model.state_dict() with torch.save and import that",
        )
    return content


def _without_prefix(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take off what stands before `latent_head.` (or another name of ours) in every used name."""
    for marker in _OURS:
        for name in state:
            at = name.find(marker)
            if at == 0:
                return state
            if at > 0 and name[at - 1] == ".":
                prefix = name[:at]
                return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    return state


def _expected_shapes(found: Mapping[str, Any], genes: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the forward pass uses."""

    def size(name: str, axis: int, otherwise: int) -> int:
        value = found.get(name)
        fits = isinstance(value, Tensor) and value.ndim == 2
        return int(value.shape[axis]) if fits and value is not None else otherwise

    latent = size("latent_head.3.weight", 0, size("decoder.gene_head.0.weight", 1, 64))
    features = size("latent_head.0.weight", 1, 512)
    with torch.device("meta"):
        net = build_published_net(features, genes, latent)
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def _problem(name: str, value: Any, shape: tuple[int, ...]) -> str | None:
    if value is None:
        return f"{name} is missing"
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return f"{name} is {getattr(value, 'dtype', type(value).__name__)}, not a float tensor"
    if tuple(value.shape) != shape:
        return f"{name} has shape {tuple(value.shape)}, expected {shape}"
    if not torch.isfinite(value).all():
        return f"{name} holds values that are not finite"
    return None


def _their_name(name: str) -> str:
    theirs, ours = next((t, o) for t, o in _OURS.items() if name.startswith(o))
    return theirs + name.removeprefix(ours)
