"""The model file of `localize`: read as written, equal as equal bytes, foreign files refused, what it says of new slides."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hespotex.analysis.localize.bags import Bag, Bags, patient_folds, permuted_labels, write_bags
from hespotex.analysis.localize.compare import map_auroc
from hespotex.analysis.localize.model import About, DiagnosisModel, fit_model
from hespotex.errors import ModelFileError

SIDE, N_PATIENTS, PERMUTED = 6, 24, 24
ABOUT = About(
    classes=("ill", "well"), kind="composition", variant="spots", genes=("G0", "G1"), predicted_by="made", encoder="",
    threshold=1.0, evidence="finding", n_true=3,
)  # fmt: skip


FAR = np.array([max(divmod(k, SIDE)) > 3 for k in range(SIDE * SIDE)])  # from the block


def _bags(folder: Path, *, first: int = 0, n: int = N_PATIENTS) -> tuple[Bags, np.ndarray]:
    """On slides of `ill` a block of 9 spots has another first value; patients are numbered from `first`."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    block = (row < 3) & (column < 3)
    xy = np.stack([column, row], axis=1) * 100.0
    slides, values, painted = [], [], []
    for k in range(first, first + n):
        of = np.random.default_rng([k, 5]).normal(size=(SIDE * SIDE, 8)).astype(np.float32)
        of[block & (k % 2 == 1), 0] += 5.0
        slides.append(Bag(f"S{k}", f"P{k}", "ill" if k % 2 else "well", xy))
        values.append(of)
        painted.append(block & (k % 2 == 1))
    return write_bags(folder, slides, values), np.concatenate(painted)


def _fitted(folder: Path, about: About = ABOUT) -> DiagnosisModel:
    bags, _ = _bags(folder)
    return fit_model(bags, permuted_labels(bags, patient_folds(bags), PERMUTED), about)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiagnosisModel:
    return _fitted(tmp_path_factory.mktemp("fitted"))


def test_new_slides_are_told_apart_and_the_structure_is_drawn(
    model: DiagnosisModel, tmp_path: Path
) -> None:
    bags, block = _bags(tmp_path, first=100, n=10)
    said = model.apply(bags)
    assert (said.likeliest == bags.labels).mean() >= 0.9
    ill = np.repeat(bags.labels == 0, SIDE * SIDE)
    assert map_auroc(said.z[ill], block[ill]) >= 0.8
    far = np.tile(FAR, 10)
    assert said.shown[ill & block].mean() > 2 * said.shown[ill & far].mean()
    assert (said.z[said.shown] >= 1).all()


def test_a_model_of_a_run_that_drew_nothing_draws_nothing(
    model: DiagnosisModel, tmp_path: Path
) -> None:
    bags, _ = _bags(tmp_path, first=100, n=4)
    none = DiagnosisModel(
        ABOUT.model_copy(update={"threshold": None}), model.components, model.fits
    )
    said = none.apply(bags)
    assert not said.shown.any()
    np.testing.assert_array_equal(said.margin, model.apply(bags).margin)


def test_a_file_is_read_as_it_was_written_and_says_the_same(
    model: DiagnosisModel, tmp_path: Path
) -> None:
    model.write(tmp_path / "m.safetensors")
    again = DiagnosisModel.read(tmp_path / "m.safetensors")
    assert again.about == ABOUT
    bags, _ = _bags(tmp_path / "new", first=50, n=4)
    before, after = model.apply(bags), again.apply(bags)
    np.testing.assert_array_equal(before.margin, after.margin)
    np.testing.assert_array_equal(before.z, after.z)


@pytest.mark.slow
def test_equal_models_are_equal_files(model: DiagnosisModel, tmp_path: Path) -> None:
    model.write(tmp_path / "one.safetensors")
    _fitted(tmp_path / "anew").write(tmp_path / "two.safetensors")
    one = (tmp_path / "one.safetensors").read_bytes()
    assert one == (tmp_path / "two.safetensors").read_bytes()
    other = ABOUT.model_copy(update={"evidence": "no evidence"})
    DiagnosisModel(other, model.components, model.fits).write(tmp_path / "three.safetensors")
    assert one != (tmp_path / "three.safetensors").read_bytes()


class _Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_nothing_in_it_is_run(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    (tmp_path / "m.safetensors").write_bytes(pickle.dumps(_Harm(harm)))
    with pytest.raises(ModelFileError, match=r"expected a model of `localize` at .*m.safetensors"):
        DiagnosisModel.read(tmp_path / "m.safetensors")
    assert not harm.exists()
    pickle.loads((tmp_path / "m.safetensors").read_bytes())  # it would have been
    assert harm.exists()


def test_files_that_are_no_whole_model_are_one_clear_line(
    model: DiagnosisModel, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"

    def refused(match: str) -> None:
        with pytest.raises(ModelFileError, match=match) as caught:
            DiagnosisModel.read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    refused("found nothing")
    path.mkdir()
    refused("found a folder")
    path.rmdir()
    save_file({"x": np.zeros(2, np.float32)}, path, metadata={"format": "hespotex model"})
    refused(r"found a file of another kind \(hespotex model\)")
    save_file({"x": np.zeros(2, np.float32)}, path)
    refused(re.escape("(it names none)"))
    model.write(path)
    whole, kept = path.read_bytes(), load_file(path)
    path.write_bytes(whole[: len(whole) // 2])
    refused("it cannot be read")
    words = {"format": "hespotex localize 1", "about": ABOUT.model_dump_json()}
    save_file({n: v for n, v in kept.items() if n != "bias"}, path, metadata=words)
    refused("found a damaged one: without bias")
    save_file(kept | {"bias": kept["bias"][:2]}, path, metadata=words)
    refused("found a damaged one: bias has the shape")
    save_file(kept | {"mean": np.full_like(kept["mean"], np.nan)}, path, metadata=words)
    refused("found a damaged one: values that are no numbers")
    save_file(kept, path, metadata=words | {"about": '{"kind": "composition"}'})
    refused("found: classes: Field required")
    save_file(kept, path, metadata=words)
    assert DiagnosisModel.read(path).about == ABOUT
