"""The fitted model of a run and its use on slides without a diagnosis; one safetensors file, no pickle.

It holds fits on all patients: a few of the true diagnoses, by seed, and one of each permutation. A slide that no fit has seen
is looked at by all of them, so that its map is held against the maps of permuted diagnoses, as in the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hespotex.analysis.localize.attention import Attention, fit_attention, softmax_by_slide
from hespotex.analysis.localize.bags import Bags, Ints
from hespotex.analysis.localize.evidence import STABLE, z_against_others
from hespotex.analysis.localize.nested import group_scores, slide_weights
from hespotex.analysis.localize.reduce import VARIANTS, Components, fit_components, project
from hespotex.errors import ModelFileError
from hespotex.storage.disk_errors import cause_of
from hespotex.storage.file_kinds import mistaken_kind
from hespotex.storage.schema import Schema, first_fault
from hespotex.storage.tensors import save_tensors

Floats = npt.NDArray[np.float32]

_FORMAT: Final = "hespotex localize 1"
_AT_ONCE: Final = 24
_POOL: Final = "pool."
_REMEDY: Final = "give the localize.safetensors that `hespotex localize` wrote"


class About(Schema):
    """What a model file says of itself."""

    classes: tuple[str, ...]
    """Names of the diagnoses."""
    kind: str
    """composition, features or both."""
    variant: str
    """One of `VARIANTS`."""
    genes: tuple[str, ...]
    """Whose composition it reads, where it reads any."""
    predicted_by: str
    """Id of the model that predicted the run's slides."""
    encoder: str
    """That made the features, as their files name it; empty where they name none, or none are read."""
    threshold: float | None
    """Of z; None where the run drew no spot, so that none is drawn here."""
    evidence: str
    """Of the run that made it."""
    n_true: int
    """Fits of the true diagnoses, the first ones."""


@dataclass(frozen=True)
class Applied:
    """What a model says of new slides.

    Attributes:
        margin: (B, C) log odds of each diagnosis against the others.
        likeliest: (B,) index of the diagnosis that the maps look towards.
        loss, alone: (N,) necessity and sufficiency of each spot's group.
        z: (N,) their mean z against the fits of permuted diagnoses.
        stability: (N,) part of the fits of the true diagnoses in which both are above 0.
        shown: (N,) what passes the threshold and is stable.
    """

    margin: Floats
    likeliest: Ints
    loss: Floats
    alone: Floats
    z: Floats
    stability: Floats
    shown: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DiagnosisModel:
    """Fits of true and of permuted diagnoses on all patients.

    Attributes:
        about: see `About`.
        components: of all slides.
        fits: `about.n_true` of the true diagnoses, then one a permutation.
    """

    about: About
    components: Components
    fits: Attention

    def write(self, path: Path) -> None:
        """Write one file, whole or not at all; equal models are equal files."""
        arrays = {
            "mean": self.components.mean,
            "axes": self.components.axes,
            "head": self.fits.head,
            "bias": self.fits.bias,
            "neutral": self.fits.neutral,
            **{_POOL + name: value for name, value in self.fits.pool.items()},
        }
        tensors = {name: np.asarray(v, dtype=np.float32) for name, v in arrays.items()}
        save_tensors(path, tensors, {"format": _FORMAT, "about": self.about.model_dump_json()})

    @classmethod
    def read(cls, path: Path) -> DiagnosisModel:
        """What `write` wrote; nothing in a file is ever run.

        Raises:
            ModelFileError: the file is missing, damaged, or another one.
        """
        from safetensors import SafetensorError, safe_open

        expected = f"a model of `localize` at {path}"
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing"
            raise ModelFileError(expected=expected, found=found, remedy=_REMEDY)
        try:
            if (mistaken := mistaken_kind(path)) is not None:
                raise ModelFileError(expected=expected, **mistaken.fields(path))
            with safe_open(path, framework="numpy") as file:
                known = file.metadata() or {}
                if known.get("format") != _FORMAT:
                    found = f"a file of another kind ({known.get('format', 'it names none')})"
                    raise ModelFileError(expected=expected, found=found, remedy=_REMEDY)
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = About.model_validate_json(known.get("about", ""))
        except ValidationError as error:
            raise ModelFileError(
                expected=expected, cause=first_fault(error), remedy=_REMEDY
            ) from error
        except (OSError, SafetensorError) as error:
            raise ModelFileError(
                expected=expected, cause=f"it cannot be read ({cause_of(error)})", remedy=_REMEDY
            ) from error
        if (wrong := _misfit(about, arrays)) is not None:
            raise ModelFileError(expected=expected, found=f"a damaged one: {wrong}", remedy=_REMEDY)
        pool = {n.removeprefix(_POOL): v for n, v in arrays.items() if n.startswith(_POOL)}
        fits = Attention(pool, arrays["head"], arrays["bias"], arrays["neutral"])
        return cls(about, Components(arrays["mean"], arrays["axes"]), fits)

    def apply(self, bags: Bags) -> Applied:
        """Log odds of slides, and the spots that speak for the likeliest diagnosis; one slide in memory at a time."""
        true = self.about.n_true
        margin = np.zeros((len(bags.slides), len(self.about.classes)), np.float32)
        maps: list[tuple[Floats, ...]] = []
        for slide, bag in enumerate(bags.slides):
            one = Bags((bag,), bags.values, bags.folder)
            plain = [self.components.of(bags.read(slide))]
            raised, said = self.fits.spots(project(one, plain, self.about.variant)[0])
            attention = softmax_by_slide(raised, one.starts)
            margin[slide] = attention[0] @ said[0]
            towards = int(margin[slide].argmax())
            neutral = np.repeat(self.fits.neutral[:, towards, None], bag.n_spots, axis=1)
            loss, alone = group_scores(attention, said[..., towards], neutral, one.neighbours())
            of_both = [
                z_against_others(np.delete(s, np.arange(1, true), axis=0)) for s in (loss, alone)
            ]
            z = np.mean(of_both, axis=0)[0]
            steady = ((loss[:true] > 0) & (alone[:true] > 0)).mean(axis=0)
            maps.append((loss[0], alone[0], z.astype(np.float32), steady.astype(np.float32)))
        loss, alone, z, steady = (np.concatenate(of) for of in zip(*maps, strict=True))
        threshold = np.inf if self.about.threshold is None else self.about.threshold
        shown = (z >= threshold) & (steady >= STABLE)
        return Applied(margin, margin.argmax(axis=1), loss, alone, z, steady, shown)


def fit_model(bags: Bags, permuted: Ints, about: About, *, seed: int = 0) -> DiagnosisModel:
    """Fit on all patients, with the true diagnoses by `about.n_true` seeds and with permuted ones (b, B)."""
    everyone = np.ones(len(bags.slides), bool)
    components = fit_components(bags, everyone)
    plain = [components.of(bags.read(b)) for b in range(len(bags.slides))]
    values = np.concatenate(project(bags, plain, about.variant))
    n_classes = len(bags.classes)

    def fitted(labels: Ints, own_seed: int) -> Attention:
        weights = slide_weights(bags, labels, np.tile(everyone, (len(labels), 1)), n_classes)
        return fit_attention(values, bags.starts, labels, weights, n_classes, seed=own_seed)

    parts = [fitted(bags.labels[None], seed + k) for k in range(about.n_true)]
    parts += [
        fitted(permuted[start : start + _AT_ONCE], seed)
        for start in range(0, len(permuted), _AT_ONCE)
    ]
    pool = {name: np.concatenate([p.pool[name] for p in parts]) for name in parts[0].pool}
    head, bias, neutral = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("head", "bias", "neutral")
    )
    return DiagnosisModel(about, components, Attention(pool, head, bias, neutral))


def _misfit(about: About, arrays: dict[str, npt.NDArray[np.generic]]) -> str | None:
    """What of a file's arrays does not fit the others."""
    lacking = {"mean", "axes", "head", "bias", "neutral"} - set(arrays)
    if lacking:
        return f"without {', '.join(sorted(lacking))}"
    m, k, n_classes = (*arrays["head"].shape, 0, 0, 0)[:3]
    shapes = {"axes": (len(arrays["mean"]), k), "bias": (m, n_classes), "neutral": (m, n_classes)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            return f"{name} has the shape {arrays[name].shape} in place of {shape}"
    if n_classes != len(about.classes) or not 0 < about.n_true < m - 1:
        return f"{n_classes} classes and {m} fits for {len(about.classes)} diagnoses"
    pool = [v for name, v in arrays.items() if name.startswith(_POOL)]
    if about.variant not in VARIANTS or not pool or any(len(v) != m for v in pool):
        return "its attention is not of this version"
    return (
        None if all(np.isfinite(v).all() for v in arrays.values()) else "values that are no numbers"
    )
