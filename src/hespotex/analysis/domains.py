"""Tissue domains over all sections together, from each source that there is, and what they agree with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.analysis.cohort import prediction_files
from hespotex.analysis.domain_fit import (
    LENGTH_UM,
    MOST_DOMAINS,
    PAIRS,
    Labels,
    Reduced,
    Stability,
    assigned,
    chosen,
    fit_parts,
    reduce_sources,
)
from hespotex.analysis.domain_markers import markers
from hespotex.analysis.domain_models import (
    LEAST_SIMILARITY,
    Match,
    divided,
    joined,
    matched,
    model_of,
)
from hespotex.analysis.domain_notes import LEAST_SPOTS, notes_of_files
from hespotex.analysis.domain_scores import (
    Words,
    against_labels,
    between_sections,
    between_sources,
    label_columns,
    read_agreed,
    read_obs,
)
from hespotex.analysis.domain_sources import (
    COMPOSITION,
    FEATURES,
    MEASURED,
    SOURCES,
    Source,
    composition_sources,
    feature_sources,
    measured_sources,
)
from hespotex.analysis.prediction_file import PredictionFile, read_by_section
from hespotex.config import Machine
from hespotex.errors import ConfigError, counted, shorten
from hespotex.progress import Progress, Reporter, heard
from hespotex.storage.atomic import check_writable, refuse_to_overwrite
from hespotex.storage.safe_names import safe_paths

# The last seed that leaves room for those of the parts: scikit-learn takes 32 bits.
MOST_SEED: Final = 2**32 - 1 - 2 * PAIRS


@dataclass(frozen=True)
class DomainOptions:
    """How domains are drawn.

    Attributes:
        sources: of `SOURCES`; None: all that there are.
        n: number of domains; None: by stability.
        resolution: of Leiden communities instead; excludes `n`.
        manifest: of the sections, with slides or features files: features are taken from there.
        agree: folder of `hespotex agree`, for scores between sections.
        labels: columns of obs; None: all that look like labels.
        length_um: of the smoothing in space; 0: none.
        keep_levels: standardise over all sections together, not inside each.
        seed: of every draw.

    Raises:
        ConfigError: a value is impossible.
    """

    sources: tuple[str, ...] | None = None
    n: int | None = None
    resolution: float | None = None
    manifest: Path | None = None
    agree: Path | None = None
    labels: tuple[str, ...] | None = None
    length_um: float = LENGTH_UM
    keep_levels: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [s for s in self.sources or () if s not in SOURCES]
        if unknown or self.sources == ():
            found = unknown[0] if unknown else "none"
            raise ConfigError(expected=f"--from with some of {', '.join(SOURCES)}", found=found)
        if self.n is not None and self.resolution is not None:
            raise ConfigError(expected="--n or --resolution", found="both")
        if self.n is not None and not 2 <= self.n <= MOST_DOMAINS:
            raise ConfigError(expected=f"--n of 2 to {MOST_DOMAINS} domains", found=self.n)
        if self.resolution is not None and not 0 < self.resolution < np.inf:
            raise ConfigError(expected="--resolution above 0", found=self.resolution)
        if self.length_um != 0 and not 1 <= self.length_um < np.inf:
            raise ConfigError(expected="--smooth of 0, or of 1 um or more", found=self.length_um)
        if not 0 <= self.seed <= MOST_SEED:
            raise ConfigError(expected=f"--seed of 0 to {MOST_SEED}", found=self.seed)
        if self.labels == ():
            raise ConfigError(expected="--labels with names of columns", found="none")
        if FEATURES in (self.sources or ()) and self.manifest is None:
            raise ConfigError(
                expected="--manifest with the slides that features are taken from",
                found="none",
                remedy="a prediction file holds no features",
            )


@dataclass(frozen=True)
class Domains:
    """What was found.

    Attributes:
        files: the predictions, by section.
        labels: by source and section, (n,) number of the domain from 0; -1: none.
        scores: one row a source and comparison: `ari`, `nmi`, `n_spots`.
        markers: of `domain_markers`.
        stability: by source, of every number that was tried; empty where it was given.
        known: labels by column and section, None where a spot has none.
        notes: sentences to be read beside it all.
        options: of the call.
    """

    files: Mapping[str, PredictionFile]
    labels: Mapping[str, Mapping[str, Labels]]
    scores: pd.DataFrame
    markers: pd.DataFrame
    stability: Mapping[str, Sequence[Stability]]
    known: Mapping[str, Mapping[str, Words]]
    notes: tuple[str, ...]
    options: DomainOptions = field(default_factory=DomainOptions)

    def numbers(self, source: str) -> list[int]:
        """Of the domains of a source that have a spot, from 0; gaps where another source has a domain that this one lacks."""
        found = np.unique(np.concatenate(list(self.labels[source].values())))
        return [int(k) for k in found if k >= 0]

    def n_domains(self, source: str) -> int:
        """How many domains of a source have a spot."""
        return len(self.numbers(source))


def domain_name(number: int) -> str:
    """`D1` for 0; empty for a spot without a domain."""
    return f"D{number + 1}" if number >= 0 else ""


def find_domains(
    predicted: Sequence[Path],
    out: Path,
    options: DomainOptions | None = None,
    *,
    machine: Machine | None = None,
    progress: Progress = None,
) -> Domains:
    """Draw domains over all sections and score them; writes nothing (`domain_files.write_domains` does).

    Args:
        predicted: run folders, folders of h5ad, or h5ad files.
        out: folder that is going to be written.
        options: how.
        machine: where encoding runs, if features are asked for and not in the cache.

    Raises:
        HESpotExError: inputs do not fit together, or hold too little.
    """
    options, reporter = options or DomainOptions(), heard(progress)
    files = read_files(predicted)
    obs = {name: read_obs(file) for name, file in files.items()}
    known = label_columns(obs, options.labels)
    notes = notes_of_files(files, known)
    kept = {name: f for name, f in files.items() if f.n_spots >= LEAST_SPOTS}
    if not kept:
        raise ConfigError(
            expected=f"a section of at least {LEAST_SPOTS} spots",
            found=f"at most {max(f.n_spots for f in files.values())}",
            remedy="domains need more",
        )
    read, agreed = [file.path for file in files.values()], None
    if options.agree is not None:
        agreed = read_agreed(files, options.agree)
        read += (options.agree / "sections").glob("*.h5ad")  # they have the names of ours
    refuse_to_overwrite(read, safe_paths(out / "sections", files, ".h5ad").values())
    check_writable(out)
    labels, tried = draw_domains(kept, options, machine or Machine(), notes, reporter)
    rows = [*against_labels(labels, known), *between_sources(labels)]
    if agreed is not None:
        rows += between_sections(labels, files, agreed)
    for sentence in notes:
        reporter.warn(sentence)
    table = _named(markers(labels, kept))
    return Domains(files, labels, _score_table(rows), table, tried, known, tuple(notes), options)


def draw_domains(
    files: Mapping[str, PredictionFile],
    options: DomainOptions,
    machine: Machine,
    notes: list[str],
    reporter: Reporter,
) -> tuple[dict[str, dict[str, Labels]], dict[str, list[Stability]]]:
    """Domains by source and section, and what numbers were tried; sentences are added to `notes`."""
    found = _sources(list(files.values()), options, machine, notes)
    labels: dict[str, dict[str, Labels]] = {}
    tried: dict[str, list[Stability]] = {}
    with reporter.task("drawing domains", len(found)) as advance:
        for source, of in found.items():
            drawn, tried[source] = _draw(source, of, files, options, notes)
            first = next(iter(labels.values()), None)
            labels[source] = drawn if first is None else matched(drawn, first)
            advance(1)
    return labels, tried


def _draw(
    source: str,
    of: Mapping[str, Source],
    files: Mapping[str, PredictionFile],
    options: DomainOptions,
    notes: list[str],
) -> tuple[dict[str, Labels], list[Stability]]:
    models = {name: model_of(files[name]) for name in of}
    several = source == COMPOSITION and len(set(models.values())) > 1 and not options.keep_levels
    scale = source == FEATURES or several
    reduced = _reduce(source, of, files, options, scale, notes)
    parts = divided(reduced, models, options.n) if several else {}
    if not parts:
        if source == COMPOSITION and len(set(models.values())) > 1:
            notes.append(
                f"predictions of {len(set(models.values()))} models, clustered together: domains from composition may mean "
                "different tissue on their sections"
            )
        assigns, tried = fit_parts([reduced], options.n, options.resolution, options.seed)
        return assigned(reduced, assigns[0]), tried
    assigns, tried = fit_parts(list(parts.values()), options.n, options.resolution, options.seed)
    drawn, matches = joined(reduced, parts, assigns, of)
    notes.append(_said_of_matches(matches))
    return drawn, tried


def _said_of_matches(matches: Sequence[Match]) -> str:
    models = list(dict.fromkeys(m.model for m in matches))
    said = []
    for model in models[1:]:
        own = sorted((m for m in matches if m.model == model), key=lambda m: m.domain)
        alike = [f"{domain_name(m.domain)} {m.similarity:.2f}" for m in own if m.similarity >= 0]
        alone = [domain_name(m.domain) for m in own if not m.similarity >= 0]
        said.append(
            f"model {model}: {', '.join(alike) or 'none'}"
            + (f"; {', '.join(alone)} of its own" if alone else "")
        )
    return (
        f"predictions of {len(models)} models: the sections of each were divided alone, and domains from composition share a "
        f"name where their mean composition is alike (correlation over genes of {LEAST_SIMILARITY:g} or more; {'. '.join(said)})"
    )


def read_files(predicted: Sequence[Path]) -> dict[str, PredictionFile]:
    """Predictions by section id, sorted.

    Raises:
        RunError: there is none, or a section stands in two files.
    """
    return read_by_section(prediction_files(predicted))


def _sources(
    files: Sequence[PredictionFile], options: DomainOptions, machine: Machine, notes: list[str]
) -> dict[str, Mapping[str, Source]]:
    """By source, in the order of `SOURCES`."""
    asked = options.sources
    found: dict[str, Mapping[str, Source]] = {}
    if asked is None or COMPOSITION in asked:
        found[COMPOSITION] = composition_sources(files)
    if options.manifest is not None and (asked is None or FEATURES in asked):
        found[FEATURES] = feature_sources(files, options.manifest, machine)
    if asked is None or MEASURED in asked:
        measured = measured_sources(files)
        if not measured and asked is not None:
            raise ConfigError(
                expected="predictions with measured counts beside them",
                found="none",
                remedy="give a folder of cross-validate or evaluate, or leave measured out of --from",
            )
        if measured:
            found[MEASURED] = measured
        if lacking := [f.spots.section_id for f in files if f.spots.section_id not in measured]:
            notes.append(f"nothing measured in {shorten(lacking)}")
    return found


def _reduce(
    source: str,
    of: Mapping[str, Source],
    files: Mapping[str, PredictionFile],
    options: DomainOptions,
    scale: bool,
    notes: list[str],
) -> Reduced:
    usable: dict[str, npt.NDArray[np.bool_]] = {}
    for name in of:
        file = files[name]
        like = file.usable & (not file.claims.suspended)
        # Verdict and flags are about the picture, which counts do not depend on.
        usable[name] = like if source != MEASURED else np.ones(file.n_spots, bool)
    if not any(mask.any() for mask in usable.values()):
        usable = {name: np.ones(files[name].n_spots, bool) for name in of}
        notes.append(f"{source}: every spot is unlike the training's, so all shaped the domains")
    return reduce_sources(
        of,
        {name: files[name].xy_um for name in of},
        usable,
        length_um=options.length_um,
        scale=scale,
        keep_levels=options.keep_levels,
        seed=options.seed,
    )


def _score_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = ["source", "compared", "section", "ari", "nmi", "n_spots", "n_classes", "mark"]
    table = pd.DataFrame(rows, columns=columns)
    table["mark"] = table["mark"].fillna("")
    table["n_classes"] = table["n_classes"].astype("Int64")
    return table


def _named(table: pd.DataFrame) -> pd.DataFrame:
    if len(table):
        table["domain"] = [domain_name(d) for d in table["domain"]]
    return table


def summary(found: Domains) -> list[str]:
    """A sentence a source: how many domains, on how many spots, and chosen how."""
    said = []
    for source, of in found.labels.items():
        n = sum(int((v >= 0).sum()) for v in of.values())
        tried = found.stability[source]
        how = ""
        if tried:
            best = next(s for s in tried if s.k == chosen(tried))
            how = f", number by stability (ARI of two fits on parts {best.mean:.2f})"
        said.append(
            f"{source}: {counted(found.n_domains(source), 'domain')} on {counted(n, 'spot')} of "
            f"{counted(len(of), 'section')}{how}"
        )
    return said


def section_key(source: str) -> str:
    """Name of the obs column of a source's domains."""
    return f"domain_{source}"
