"""What a result depends on: one frozen configuration per stage, and `RunConfig`, from and to TOML.

An unknown key is an error. Threads, device and verbosity are not part of it (see `machine`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hespotex.config.choices import Grid
from hespotex.config.values import apply_override, deep_copy, one_line, set_key, under
from hespotex.errors import ConfigError
from hespotex.storage.text_files import read_text

Profile = Literal["default", "published"]
NucleiMode = Literal["off", "published", "density"]
NucleiSource = Literal["classical", "instanseg", "cellpose", "mask"]

# What a profile changes of the other stages where nothing else is asked for.
_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "published": {
        "encoder": {"name": "efficientnet-lite0-pooled"},
        "panel": {"kind": "hvg", "min_spot_fraction": 0.0, "min_spots": 1000},
    }
}


class StageConfig(BaseModel):
    """Base of every stage's configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# How a slide is read: patch by patch, or by cells that patches share (`features.area`).
Reading = Literal["patches", "area"]


class EncoderConfig(StageConfig):
    """Which frozen encoder turns patches into features."""

    name: str = "efficientnet-lite0"
    """`efficientnet-lite0`, `timm:<name>`, `lazyslide:<name>`."""
    projection: int | None = Field(None, ge=1)
    """Multiply the features with a fixed random orthonormal matrix of so many columns."""
    reading: Literal["auto"] | Reading = "auto"
    """Every patch is encoded by itself (`patches`), or put together from cells that the patches share (`area`); `auto` takes
    what is cheaper for the training sections (`models.reading`), and the model keeps that."""

    @property
    def read_as(self) -> Reading:
        """The reading; patches where nobody chose for `auto`."""
        return "area" if self.reading == "area" else "patches"


class PatchConfig(StageConfig):
    """The tissue that a patch shows."""

    sides_um: tuple[float, ...] | None = None
    """Sides of the patches in microns, one encoding each; None: the encoder's size x mpp with three
    wider contexts, or 77.2, 154.5, 309 and 617.9 um where the encoder states no mpp."""

    @field_validator("sides_um")
    @classmethod
    def _positive_and_ascending(cls, sides: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if sides is not None and (
            not sides or any(s <= 0 for s in sides) or list(sides) != sorted(set(sides))
        ):
            raise ValueError(f"expected ascending sides above 0 um, found {list(sides)}")
        return sides


class PanelConfig(StageConfig):
    """Which genes are predicted; always chosen on training sections."""

    kind: Literal["all", "hvg", "list"] = "all"
    """All seen often enough; of these the union of each training section's highly variable genes; a given list."""
    n_top: int = Field(1000, ge=1)
    """Highly variable genes per section (seurat_v3); named without a kind it asks for `hvg`."""
    min_spot_fraction: float = Field(0.10, ge=0, le=1)
    """A gene must be seen in at least this share of the training spots (not for a given list)."""
    min_spots: int = Field(0, ge=0)
    """A gene must be seen in at least so many training spots (published: 1,000)."""
    genes: tuple[str, ...] | None = None
    """The given list, with kind `list`."""
    add: tuple[str, ...] = ()
    """Genes that stand in the panel besides, however seldom they were seen."""

    @model_validator(mode="before")
    @classmethod
    def _variable_where_counted(cls, values: Any) -> Any:
        """`n_top` means nothing to the other kinds, and was enough while `hvg` was the default."""
        if isinstance(values, Mapping) and "n_top" in values and "kind" not in values:
            return {**values, "kind": "hvg"}
        return values


class ModelConfig(StageConfig):
    """The image stream of the default profile; see docs/design/model.md for why."""

    n_components: int = Field(64, ge=2)
    """Principal components of the standardised features that the network reads."""
    neighbours: int = Field(6, ge=0)
    """Nearest spots in the graph of the image stream."""
    hops: int = Field(1, ge=0)
    """Mean over neighbours, taken so often, that joins a spot's own inputs; 0: the spot alone."""
    hidden: int = Field(128, ge=1)
    latent_size: int = Field(32, ge=1)
    """Size of latent_hat, of GATE's latent, and so the rank of the composition."""
    graph_layers: int = Field(0, ge=0)
    """Layers of the graph decoder; 0 leaves it out."""
    chained: bool = True
    """Each graph layer reads the one before it, rather than latent_hat."""
    input_dropout: float = Field(0.2, ge=0, lt=1)
    hidden_dropout: float = Field(0.6, ge=0, lt=1)
    dispersion: float = Field(10.0, gt=0)
    """Of the negative binomial: variance = mean + mean^2 / dispersion."""
    depth_penalty: float = Field(3.0, gt=0)
    """Ridge penalty of the linear depth, in spots."""
    kernel_share: float = Field(0.8, ge=0, le=1)
    """Share of the kernel regression in the log ratios; the networks have the rest."""
    kernel_penalty: float = Field(0.5, gt=0)
    landmarks: int = Field(1024, ge=1)
    """Training spots that span the kernel regression, at most."""
    direct_share: float = Field(0.35, ge=0, le=1)
    """Share of the direct regression on log1p in X; the expectation by depth has the rest."""
    direct_rank: int = Field(8, ge=1)
    ensemble: int = Field(3, ge=1)
    """Networks from different seeds whose predictions are averaged."""
    epochs: int = Field(40, ge=1)
    max_steps: int = Field(800, ge=1)
    """Steps of a network at most, whatever the epochs: many spots need fewer epochs."""
    lr: float = Field(3e-3, gt=0)
    """Peak of the one-cycle schedule."""
    weight_decay: float = Field(0.1, ge=0)
    latent_weight: float = Field(0.3, ge=0)
    """Weight of 1 - PCC between latent_hat and the spot's expression-side latent; 0 leaves it out."""
    latent_target: Literal["components", "gate"] = "components"
    """Expression-side latent: denoised components of the Pearson residuals, or GATE's on top of them."""
    gate_components: int = Field(128, ge=2)
    """Principal components of the Pearson residuals that GATE reads."""
    gate_hidden: int = Field(128, ge=1)
    gate_steps: int = Field(100, ge=0)


class PublishedConfig(StageConfig):
    """Sizes and rates of the published profile, as published; see docs/design/published-profile.md."""

    latent_size: int = Field(64, ge=1)
    gate_hidden: int = Field(512, ge=1)
    gate_query: int = Field(8, ge=1)
    """Spots in a query of GATE's graph, the spot itself counted."""
    gate_steps: int = Field(500, ge=0)
    """Full-batch steps on each section."""
    epochs: int = Field(30, ge=1)
    """The last one is kept."""
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)


class TrustConfig(StageConfig):
    """How a model learns what its predictions are worth."""

    calibrate: bool = True
    """Fit intervals and the out-of-distribution check by leaving out training sections in turn."""
    nearest_spots: int = Field(2048, ge=0)
    """Training spots whose measured counts the model file keeps, so that `evaluate` can show the nearest patches
    beside the model; 0 keeps none, for models that leave the house without anybody's counts."""
    inner_folds: int | None = Field(None, ge=2)
    """Training patients (or sections) are left out in so many groups at most, each costs a fit; None: up to five
    are left out one by one, more in three groups."""


class SearchConfig(StageConfig):
    """Values among which inner folds of the training part choose; without a grid nothing is searched."""

    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Candidates by dotted key, `"model.hidden" = [64, 128]`; every combination is tried."""
    score: Literal[
        "pcc_composition_mean", "pcc_composition_abundant200", "pcc_log1p_mean", "rmse_log1p"
    ] = "pcc_composition_mean"
    """What the choice goes by, on the training sections left out."""

    @field_validator("grid")
    @classmethod
    def _keys_of_the_fit(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in grid.items():
            if key.partition(".")[0] not in {"model", "published"}:
                raise ValueError(
                    f"expected keys of model or published to search, found {key!r}: patches, genes and folds "
                    "are the same for all candidates"
                )
            if not values or len({repr(v) for v in values}) < len(values):
                raise ValueError(f"expected different values of {key} to search, found {values}")
        return grid


class NucleiConfig(StageConfig):
    """Nuclei under the spots, part of the model; docs/design/nuclei.md says what they bring."""

    mode: NucleiMode = "off"
    """`published`: label values, relative to the slide; `density`: nuclei per area."""
    source: NucleiSource = "classical"
    """A segmenter, or masks that the manifest names."""
    side_um: float | None = Field(None, gt=0)
    """Side of the square around a spot in which nuclei are counted; None: the spot's diameter."""
    bounds_offset: bool = False
    """Outlines in a mask start at the slide's bounds (MRXS), as QuPath shows it."""


class FoldConfig(StageConfig):
    """What is left out in turn."""

    by: str = Field("auto", pattern=r"^(auto|patient|section|kfold:[1-9][0-9]*)$")
    """`patient`, `section`, `kfold:N` (whole patients in N groups); `auto` leaves out up to ten patients one by one, more in ten
    groups, and a run and its model keep which."""


class PoolingConfig(StageConfig):
    """How cells (Xenium, segmented Visium HD) and bins become spots; the pitch stands in the manifest."""

    grid: Grid | None = None
    """`hexagonal` or `square`; None: hexagonal for cells, square for bins."""
    side_um: float | None = Field(None, gt=0)
    """Side of the squares into which lattices finer than 50 um are summed to be fitted on and scored; None: by their counts
    (`sections.fine`). At most the pitch: bins stay bins."""


class RunConfig(StageConfig):
    """Everything that a result depends on besides the input files."""

    profile: Profile = "default"
    seed: int = Field(0, ge=0)
    encoder: EncoderConfig = EncoderConfig()
    patches: PatchConfig = PatchConfig()
    panel: PanelConfig = PanelConfig()
    model: ModelConfig = ModelConfig()
    published: PublishedConfig = PublishedConfig()
    trust: TrustConfig = TrustConfig()
    folds: FoldConfig = FoldConfig()
    pooling: PoolingConfig = PoolingConfig()
    search: SearchConfig = SearchConfig()
    nuclei: NucleiConfig = NucleiConfig()

    @classmethod
    def from_toml(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML file and apply `KEY=VALUE` overrides.

        Raises:
            ConfigError: the file is missing or no TOML, a key is unknown, a value does not fit.
        """
        try:
            values = tomllib.loads(read_text(path, "a TOML file", ConfigError))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                expected=f"TOML in {path}", cause=error, remedy="correct it there"
            ) from error
        return cls.from_values(values, overrides, source=str(path))

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, Any],
        overrides: Sequence[str] = (),
        *,
        source: str = "the options",
    ) -> Self:
        """Build from nested values plus `KEY=VALUE` overrides (dotted keys, TOML values)."""
        merged = deep_copy(values)
        for override in overrides:
            apply_override(merged, override)
        merged = under(_PRESETS.get(str(merged.get("profile")), {}), merged)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise ConfigError(f"{one_line(error)}", remedy=f"found in {source}") from error

    def with_genes(self, genes: Sequence[str]) -> Self:
        """The same configuration with a given gene panel."""
        panel = self.panel.model_copy(update={"kind": "list", "genes": tuple(genes)})
        return self.model_copy(update={"panel": panel})

    def with_added_genes(self, genes: Sequence[str]) -> Self:
        """The same configuration with genes that stand in its panel besides, each once."""
        added = tuple(dict.fromkeys((*self.panel.add, *genes)))
        return self.model_copy(update={"panel": self.panel.model_copy(update={"add": added})})

    def candidates(self) -> tuple[tuple[dict[str, Any], Self], ...]:
        """Every combination of the searched values, with the configuration that has them; itself without a grid.

        Raises:
            ConfigError: a searched key is unknown, a value does not fit, or the profile does not read the key.
        """
        if not self.search.grid:
            return (({}, self),)
        part = "published" if self.profile == "published" else "model"
        for key in self.search.grid:
            if key.partition(".")[0] != part:
                raise ConfigError(
                    expected=f"keys of {part} to search with profile {self.profile}",
                    found=f"{key!r}",
                )
        keys = list(self.search.grid)
        found = []
        for combination in product(*self.search.grid.values()):
            values = deep_copy(self.model_dump(mode="json"))
            for key, value in zip(keys, combination, strict=True):
                set_key(values, key, value, "--search")
            chosen = dict(zip(keys, combination, strict=True))
            found.append((chosen, type(self).from_values(values, source="the searched values")))
        return tuple(found)
