"""What a notebook user may hand over: text as paths, and wrong arguments that are named as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hespotex
from helpers.toy_prediction import toy_stored
from hespotex.errors import ConfigError
from hespotex.models.fit import device_name

MANIFEST = "section_id,patient_id,slide\nA,P,a.png\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "a.png").touch()
    (tmp_path / "sections.csv").write_text(MANIFEST)
    return tmp_path / "sections.csv"


def test_paths_in_options_and_machines_may_be_text() -> None:
    options = hespotex.SlideOptions(tissue="outline.geojson", spots="spots.csv")  # type: ignore[arg-type]
    assert (options.tissue, options.spots) == (Path("outline.geojson"), Path("spots.csv"))
    assert hespotex.Machine(cache="cache").cache == Path("cache")  # type: ignore[arg-type]


def test_public_readers_take_paths_as_text(tmp_path: Path) -> None:
    (tmp_path / "sets.gmt").write_text("IMMUNE\tof T cells\tCD3E\tCD4\n")
    assert hespotex.read_gmt(str(tmp_path / "sets.gmt"))[0].genes == ("CD3E", "CD4")
    toy_stored(tmp_path)
    assert hespotex.read_prediction(str(tmp_path / "S1.h5ad")).section_id == "S1"
    assert hespotex.PredictionFile(str(tmp_path / "S1.h5ad")).n_spots == 30


def test_lists_of_names_become_tuples() -> None:
    options = hespotex.SlideOptions(formats=["geojson"], genes=["A", "B"])  # type: ignore[arg-type]
    assert (options.formats, options.genes) == (("geojson",), ("A", "B"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hespotex.SlideOptions(genes="CD3E,KRT8"), r"list .* genes, .*write \['CD3E', 'KRT8'\]"),
        (lambda: hespotex.SlideOptions(formats="geojson"), r"list of names for formats, found the text"),
        (lambda: hespotex.SlideOptions(mpp="0.5"), "expected a number for mpp, found '0.5'"),
        (lambda: hespotex.Machine(device="gpu"), "auto, cpu, cuda, cuda:N, mps, found 'gpu'"),
        (lambda: hespotex.Machine(threads=0), "whole number of threads, at least 1, found 0"),
        (lambda: hespotex.Machine(threads="2"), "whole number of threads, at least 1, found '2'"),
    ],
)  # fmt: skip
def test_wrong_values_are_named_when_they_are_made(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("cross_validate", {"sections": "A"}, r"list of names for sections, found the text 'A'"),
        ("cross_validate", {"config": "default"}, r"config as hespotex\.RunConfig\(\.\.\.\), found str"),
        ("train", {"config": {"seed": 1}}, r"config as hespotex\.RunConfig\(\.\.\.\), found dict"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named_before_anything_is_written(
    manifest: Path, tmp_path: Path, verb: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(hespotex, verb)(str(manifest), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_options_of_another_kind_are_named(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"options as hespotex\.SlideOptions\(\.\.\.\), found dict"
    ):
        hespotex.predict("m", manifest, tmp_path / "o", options={"mpp": 1})  # type: ignore[arg-type]


def test_gene_sets_given_as_a_path_are_named() -> None:
    from hespotex.genes.gene_sets import sets_key

    with pytest.raises(
        ConfigError, match=r"gene_sets\.read_gmt\(FILE\) returns them, found 'a\.gmt'"
    ):
        sets_key("a.gmt")  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ConfigError, match="expected the device cuda:1, found 0 CUDA GPUs that torch"
    ):
        device_name(hespotex.Machine(device="cuda:1"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="expected the device mps, found none that torch"):
        device_name(hespotex.Machine(device="mps"))
