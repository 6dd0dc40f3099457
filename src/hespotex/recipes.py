"""Models that anybody can build again: a recipe names data, configuration and the scores to be met.

On one machine the same recipe gives the same file bit for bit; on another one, the same scores within `tolerance`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hespotex.config import Machine, RunConfig
from hespotex.config.values import one_line
from hespotex.errors import ConfigError, ModelFileError
from hespotex.models.bundle import read_model
from hespotex.pipeline import train
from hespotex.progress import Progress, heard
from hespotex.public.fetch import DATA_SETS, fetch
from hespotex.stages import encode, read_to_fit
from hespotex.storage.clock import StageClock
from hespotex.storage.metrics import Validation
from hespotex.storage.text_files import read_text


class Recipe(BaseModel):
    """A TOML file of `models/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    """What the model is for."""
    fetch: str | None = None
    """Data set that `hespotex fetch` brings; None: only a manifest of one's own."""
    ids: tuple[str, ...] = ()
    """Of the data set; empty: all."""
    sections: tuple[str, ...] = ()
    """Of the manifest; empty: all."""
    licence: str
    """Of the model."""
    data_licence: str
    """Of the data."""
    config: dict[str, Any] = Field(default_factory=dict)
    """As of `train --config`."""
    expected: dict[str, float] = Field(default_factory=dict)
    """Mean scores of the model in its own cross-validation; empty: nobody has built it yet."""
    tolerance: float = Field(0.005, ge=0)
    """How far a score may lie from the expected one on another machine."""


@dataclass(frozen=True)
class Built:
    """A model that was built.

    Attributes:
        path: of the model file.
        scores: (expected, found) of every score that the recipe names.
    """

    path: Path
    scores: Mapping[str, tuple[float, float]]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: it cannot be read, or a key or value is wrong.
    """
    try:
        recipe = Recipe.model_validate(tomllib.loads(read_text(path, "a recipe", ConfigError)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(expected=f"a recipe in TOML in {path}", cause=error) from error
    except ValidationError as error:
        raise ConfigError(f"{one_line(error)}", remedy=f"found in {path}") from error
    if recipe.fetch is not None and recipe.fetch not in DATA_SETS:
        raise ConfigError(
            expected=f"a data set of {', '.join(DATA_SETS)} in {path}", found=f"{recipe.fetch!r}"
        )
    return recipe


def build(
    recipe: str | Path,
    out: str | Path,
    *,
    manifest: str | Path | None = None,
    data: str | Path | None = None,
    ids: Sequence[str] | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> Built:
    """Train the model of a recipe, and compare its scores with those that the recipe states.

    Example:
        >>> build("models/her2st.toml", "her2st.hespotex")  # doctest: +SKIP

    Args:
        recipe: TOML file.
        out: model file; its card and its validation lie beside it.
        manifest: of data that are here; None: fetched.
        data: folder for what is fetched; None: beside `out`.
        ids: fetch these of the data set instead of the recipe's (another organ of HEST-1k); its scores say nothing then.
        machine, progress: as of `train`.

    Raises:
        ConfigError: the recipe is wrong, or its data have to be given.
        ModelFileError: a score lies further from the recipe's than its tolerance; the model stays.
        HESpotExError: as of `train` and `fetch`.
    """
    path, out, reporter = Path(recipe), Path(out), heard(progress)
    known = read_recipe(path)
    config = RunConfig.from_values(known.config, source=str(path))
    if manifest is None:
        if known.fetch is None:
            raise ConfigError(
                expected=f"the manifest of the data of {path}: {known.title}",
                found="none",
                remedy="give --manifest",
            )
        folder = Path(data) if data is not None else out.parent / known.fetch
        manifest = fetch(known.fetch, folder, ids=ids or known.ids or None, progress=reporter)
    train(
        manifest,
        out,
        config=config,
        sections=known.sections or None,
        machine=machine,
        progress=reporter,
    )
    return Built(out, {}) if ids else _compared(known, path, out)


def encode_for(
    recipe: str | Path,
    manifest: str | Path,
    *,
    sections: Sequence[str] | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> int:
    """Encode sections as a recipe does, and keep their features in the cache; jobs share the sections of a large set so.

    Example:
        >>> encode_for("models/hest-breast-uni2.toml", "sections.csv", sections=["TENX95"])  # doctest: +SKIP

    Returns:
        spots that have features now.
    """
    machine, reporter = machine or Machine(), heard(progress)
    config = RunConfig.from_values(read_recipe(Path(recipe)).config, source=str(recipe))
    read, config, _ = read_to_fit(
        Path(manifest), sections, config, None, None, machine, reporter, StageClock()
    )
    return sum(len(item.features) for item in encode(read, config, machine, reporter).items)


def _compared(recipe: Recipe, path: Path, out: Path) -> Built:
    found = Validation.model_validate(read_model(out).validation)
    scores = {
        name: (value, found.mean_of("model", name)) for name, value in recipe.expected.items()
    }
    off = {n: v for n, v in scores.items() if not abs(v[0] - v[1]) <= recipe.tolerance}
    if off:
        name, (stated, value) = next(iter(off.items()))
        raise ModelFileError(
            expected=f"{name} {stated:.3f} within {recipe.tolerance:g}, as {path} states",
            found=f"{value:.3f} of the model in {out}",
            remedy="look for other data or another version of hespotex; the model is kept",
        )
    return Built(out, scores)
