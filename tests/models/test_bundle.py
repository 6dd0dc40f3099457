"""A model file gives back exactly what was written, and says what is wrong with any other file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hespotex.config import RunConfig
from hespotex.errors import ModelFileError
from hespotex.models.bundle import Bundle, TrainedOn, beside_model, read_model, write_model
from hespotex.models.header import ModelHeader
from hespotex.models.types import EncoderRecord, FittedModel


def _bundle() -> Bundle:
    return Bundle(
        config=RunConfig.from_values({"seed": 4}),
        genes=("B", "A"),
        training_totals=(5.0, 2.5),
        encoder=EncoderRecord("toy", "k", 3, 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        sides_um=(50.0, 100.0),
        spot_pitch_um=200.0,
        spot_diameter_um=100.0,
        sections=(TrainedOn("S1", "P1", "key", 7, 0.5),),
        model=FittedModel(
            "default",
            {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "d": np.array(0.1)},
            {"rank": 2},
            {"loss": [1.0, 0.25]},
        ),
        validation={"grades": {"A": "D"}},
        trust={"ood.threshold": np.array(1.5), "intervals.lower": np.zeros((2, 2), np.float32)},
    )


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    contents = set()
    for i in range(8):  # an order drawn by chance would differ in all but one of 24 pairs
        write_model(tmp_path / f"{i}.hespotex", _bundle())
        contents.add((tmp_path / f"{i}.hespotex").read_bytes())
    assert len(contents) == 1


def test_model_file_gives_back_every_value(tmp_path: Path) -> None:
    written = _bundle()
    write_model(tmp_path / "m.hespotex", written)
    read = read_model(tmp_path / "m.hespotex")
    assert read.config == written.config
    assert (read.genes, read.training_totals) == (written.genes, written.training_totals)
    assert (read.encoder, read.sides_um, read.sections) == (
        written.encoder,
        written.sides_um,
        written.sections,
    )
    assert read.validation == written.validation
    assert (read.model.hyper, read.model.history) == (written.model.hyper, written.model.history)
    for name, value in written.model.tensors.items():
        np.testing.assert_array_equal(read.model.tensors[name], value)
        assert read.model.tensors[name].dtype == value.dtype
    assert read.model.tensors.keys() == written.model.tensors.keys()
    assert read.trust.keys() == written.trust.keys()
    assert float(read.trust["ood.threshold"]) == 1.5
    assert read.model_id == written.model_id


def test_non_contiguous_tensors_are_written_in_their_logical_order(tmp_path: Path) -> None:
    bundle = _bundle()
    array = np.arange(6.0).reshape(2, 3).T
    model = FittedModel("default", {"w": array})
    write_model(tmp_path / "m", Bundle(**{**bundle.__dict__, "model": model}))
    np.testing.assert_array_equal(read_model(tmp_path / "m").model.tensors["w"], array)


def test_file_names_no_path_and_no_user(tmp_path: Path) -> None:
    write_model(tmp_path / "m.hespotex", _bundle())
    assert str(tmp_path).encode() not in (tmp_path / "m.hespotex").read_bytes()


@pytest.mark.parametrize("kept", [0, 5, 100, 1500])
def test_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "m.hespotex"
    write_model(file, _bundle())
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"expected a whole model file.*m\.hespotex"):
        read_model(file)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="found nothing"):
        read_model(tmp_path / "absent")
    with pytest.raises(ModelFileError, match="found a folder"):
        read_model(tmp_path)


def test_safetensors_of_another_program_is_refused_with_a_way_out(tmp_path: Path) -> None:
    save_file({"w": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match=r"another program.*import-checkpoint"):
        read_model(tmp_path / "other.safetensors")


def test_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    save_file(
        {"w": np.zeros(2)},
        tmp_path / "new",
        metadata={"format": "hespotex-model", "format_version": "99", "header": "{}"},
    )
    with pytest.raises(ModelFileError, match=r"format 2 or older, found 99.*update hespotex"):
        read_model(tmp_path / "new")


@pytest.mark.parametrize("header", ["{}", "[", json.dumps({"encoder": {}})])
def test_incomplete_header_is_named(tmp_path: Path, header: str) -> None:
    save_file(
        {"w": np.zeros(2)},
        tmp_path / "m",
        metadata={"format": "hespotex-model", "format_version": "1", "header": header},
    )
    with pytest.raises(ModelFileError, match="expected a complete header"):
        read_model(tmp_path / "m")


def test_two_models_share_no_card_and_no_validation() -> None:
    names = {beside_model(Path("a") / n, ".validation").name for n in ("lab.1", "lab.2", "lab")}
    assert names == {"lab.1.validation", "lab.2.validation", "lab.validation"}
    card = beside_model(Path("a") / "lab.v1.hespotex", ".model-card.md")
    assert card == Path("a") / "lab.v1.model-card.md"


def test_a_header_says_which_entry_is_missing_or_of_another_kind(tmp_path: Path) -> None:
    write_model(tmp_path / "m.hespotex", _bundle())
    with safe_open(tmp_path / "m.hespotex", framework="numpy") as handle:
        metadata, tensors = handle.metadata(), {k: handle.get_tensor(k) for k in ("w", "d")}
    del metadata["content_key"]
    whole = json.loads(metadata["header"])
    for changed, said in (
        ({k: v for k, v in whole.items() if k != "genes"}, "genes: Field required"),
        (whole | {"sides_um": "wide"}, "sides_um: Input should be a valid tuple"),
        (whole | {"sections": [{"section_id": "S1"}]}, r"sections\.0\.patient_id: Field required"),
        (whole | {"validation": {"mean": 3}}, "mean: Input should be a valid dictionary"),
        ([1], "a list"),
    ):
        save_file(tensors, tmp_path / "m", metadata=metadata | {"header": json.dumps(changed)})
        with pytest.raises(ModelFileError, match=rf"a complete header in .*m, found: {said}"):
            read_model(tmp_path / "m")


def test_a_header_of_another_version_opens(tmp_path: Path) -> None:
    """Of 0.1.0, which kept neither gene sets nor other genes nor what it saw of a section; and of a newer one."""
    header = ModelHeader.parse(_header_of(tmp_path, _bundle()))
    old = header.plain()
    for name in ("gene_sets", "other_genes", "units", "versions"):
        del old[name]
    old["sections"] = [
        {"section_id": "S1", "patient_id": "P1", "key": "key", "n_spots": 7, "mpp": 0.5}
    ]
    opened = ModelHeader.parse(json.dumps(old | {"new": 1}))
    assert opened.sections == _bundle().sections
    assert (opened.gene_sets, opened.other_genes.names) == ((), ())
    assert json.loads(opened.text())["new"] == 1


def _header_of(folder: Path, bundle: Bundle) -> str:
    write_model(folder / "m.hespotex", bundle)
    with safe_open(folder / "m.hespotex", framework="numpy") as handle:
        return str(handle.metadata()["header"])
