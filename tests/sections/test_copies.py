"""A training section is known again in another order, on another scale and in part; its sisters are not taken for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from hespotex.config import PanelConfig, RunConfig
from hespotex.errors import SpotTableError
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle, TrainedOn, read_model, write_model
from hespotex.models.trained_on import check_not_trained_on, with_inputs
from hespotex.models.types import EncoderRecord, FittedModel
from hespotex.sections import duplicates as copies
from hespotex.sections.duplicates import copied_spots, sketch, spot_marks
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import Geometry, Section, read_section

Change = Callable[[Section], Section]


@pytest.fixture(scope="module")
def her2st(shared_data: Path) -> dict[str, Section]:
    """C2, C3 and C4 of one patient."""
    manifest = read_manifest(shared_data / "her2st" / "sections.csv", ["C2", "C3", "C4"])
    return {row.section_id: read_section(row) for row in manifest.rows}


@pytest.fixture(scope="module")
def mob(shared_data: Path) -> dict[str, Section]:
    """Two animals."""
    manifest = read_manifest(shared_data / "mob" / "sections.csv")
    return {row.section_id: read_section(row) for row in manifest.rows}


def model_of(sections: list[Section], path: Path) -> Bundle:
    """A model file that was written after a fit on these sections, read again."""
    panel = GenePanel.fit(sections, PanelConfig())
    bundle = Bundle(
        config=RunConfig(),
        genes=panel.genes,
        training_totals=panel.training_totals,
        encoder=EncoderRecord("toy", "k", 3, 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        sides_um=(50.0,),
        spot_pitch_um=200.0,
        spot_diameter_um=100.0,
        sections=tuple(
            TrainedOn(s.section_id, s.patient_id, s.expression_key(), s.n_spots, 0.7)
            for s in sections
        ),
        model=FittedModel("default", {"w": np.zeros(2, np.float32)}),
    )
    write_model(path, with_inputs(bundle, sections))
    return read_model(path)


def of_genes(section: Section, columns: npt.NDArray[np.intp]) -> Section:
    """The section with these genes alone, in this order."""
    assert section.counts is not None
    assert section.genes is not None
    return replace(section, counts=section.counts[:, columns], genes=section.genes[columns])


def as_copy(section: Section) -> Section:
    """Another name, another patient, other positions."""
    return replace(section, section_id="Z", patient_id="Z", xy_px0=2 * section.xy_px0 + 5)


def shuffled(section: Section) -> Section:
    spots, genes = (np.random.default_rng(1).permutation(n) for n in section.counts.shape)  # type: ignore[union-attr]
    return of_genes(section.spots(spots), genes)


def often_seen(section: Section) -> Section:
    """Genes that stay after a filter of at least 20 spots: a tenth of them, some of the panel's are lost, too."""
    return of_genes(section, np.flatnonzero(section.counts.getnnz(axis=0) >= 20))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "spots"),
    [
        pytest.param(shuffled, r"(\d+) of \1", id="other order"),
        pytest.param(
            lambda s: s.spots(np.arange(0, s.n_spots, 2)), r"(\d\d) of \1", id="half of it"
        ),
        pytest.param(lambda s: s.spots(np.arange(12)), r"(12|11) of \1", id="12 spots of it"),
        pytest.param(often_seen, r"(\d+) of \1", id="genes that are often seen"),
    ],
)
def test_a_copy_of_a_training_section_is_refused(
    her2st: dict[str, Section], tmp_path: Path, change: Change, spots: str
) -> None:
    path = tmp_path / "m.hespotex"
    bundle = model_of([her2st["C2"], her2st["C3"]], path)
    copied = as_copy(change(her2st["C2"]))
    with pytest.raises(
        SpotTableError,
        match=rf"section Z: .*m\.hespotex was not trained on, found the counts of {spots} compared spots in its "
        "training section C2; leave it out with --sections",
    ):
        check_not_trained_on(path, bundle, [her2st["C4"], copied])


@pytest.mark.slow
def test_sister_sections_and_other_animals_are_no_copies(
    her2st: dict[str, Section], mob: dict[str, Section], tmp_path: Path
) -> None:
    path = tmp_path / "m.hespotex"
    for trained, other in (("C2", "C3"), ("C3", "C4"), ("C4", "C2")):
        check_not_trained_on(path, model_of([her2st[trained]], path), [her2st[other]])
        shared = np.intersect1d(*(spot_marks(her2st[name]) for name in (trained, other)))
        assert len(shared) == 0
    check_not_trained_on(path, model_of([mob["MOB4"]], path), [mob["MOB9"]])


def test_a_section_larger_than_its_sketch_is_known_by_a_sample_of_its_spots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies, "SKETCH_SIZE", 64)
    rng = np.random.default_rng(0)
    whole = np.unique(rng.integers(0, 2**64, size=1000, dtype=np.uint64))
    others = np.unique(rng.integers(0, 2**64, size=1000, dtype=np.uint64))
    kept = sketch(whole)
    assert len(kept) == 64
    assert kept == tuple(np.sort(whole)[:64].tolist())
    assert copied_spots(whole, kept) == (64, 64)
    part = np.sort(rng.choice(whole, 200, replace=False))
    found = copied_spots(part, kept)
    assert found is not None
    assert found[0] == found[1] < 30
    assert copied_spots(np.union1d(whole, others), kept) == (64, 64)
    assert copied_spots(others, kept) is None
    tenth = np.union1d(rng.choice(whole, 100, replace=False), others[:900])
    assert copied_spots(tenth, kept) is None


def _tiny(genes: list[str], n_spots: int = 2) -> Section:
    counts = np.arange(1, n_spots * len(genes) + 1).reshape(n_spots, len(genes))
    return Section(
        "S",
        "P",
        None,
        Geometry(0.5, 100.0, 55.0),
        np.array([f"b{i}" for i in range(n_spots)]),
        np.zeros((n_spots, 2)),
        sparse.csr_matrix(counts.astype(np.int32)),
        np.array(genes),
    )


def test_marks_stay_what_they_are_in_files() -> None:
    names = [f"G{j}" for j in range(20)]
    weights = [
        int.from_bytes(hashlib.blake2b(n.encode(), digest_size=8).digest(), "little") for n in names
    ]
    rows = [[spot * 20 + j + 1 for j in range(20)] for spot in range(2)]
    marks = [sum(c * w for c, w in zip(row, weights, strict=True)) % 2**64 for row in rows]
    assert sketch(spot_marks(_tiny(names))) == tuple(sorted(marks))


def test_spots_with_few_genes_are_not_marked() -> None:
    assert len(spot_marks(_tiny([f"G{j}" for j in range(19)]))) == 0
    wide = _tiny([f"G{j}" for j in range(40)])
    assert len(spot_marks(wide)) == 2
    assert len(spot_marks(wide, ["G1", "G2", "absent"])) == 0
    assert copied_spots(spot_marks(wide), ()) is None
    assert len(spot_marks(replace(wide, counts=None, genes=None))) == 0


def test_a_file_of_before_sketches_knows_its_sections_by_their_key_alone(
    her2st: dict[str, Section], tmp_path: Path
) -> None:
    path, section = tmp_path / "m.hespotex", her2st["C2"]
    bundle = model_of([section], path)
    old = replace(bundle, sections=(replace(bundle.sections[0], marks=(), abundant_marks=()),))
    check_not_trained_on(path, old, [as_copy(section)])
    with pytest.raises(SpotTableError, match="found its training section C2; leave"):
        check_not_trained_on(path, old, [replace(section, section_id="Z")])
