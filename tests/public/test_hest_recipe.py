"""The recipe for HEST-1k runs from the hub to a model, on painted samples of that layout, with a network in place of UNI2-h."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import command, refusal
from helpers.hest_samples import hest_samples
from helpers.hub_server import as_hub, hub_data_set
from helpers.web_server import Web, serving
from hespotex.config import Machine
from hespotex.models.bundle import read_model
from hespotex.public.fetch import fetch
from hespotex.recipes import build, encode_for

_REAL = pytest.importorskip("lazyslide_models").MODEL_REGISTRY["uni2"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures")]
RECIPE = Path(__file__).parents[2] / "models" / "hest-breast-uni2.toml"
_QUICK = """
[config.panel]
n_top = 20
[config.model]
epochs = 2
ensemble = 1
hidden = 8
n_components = 8
"""
_SEEN: list[int] = []


class _Network(_REAL):  # type: ignore[misc,valid-type]
    """As lazyslide-models registers UNI2-h, with its licence, but for the weights: means and deviations of the colours of a patch."""

    def __init__(self, model_path: Path | None = None, token: str | None = None) -> None:
        self.model = torch.nn.Flatten(2)

    def get_transform(self) -> Any:
        from torchvision.transforms import v2

        to_float = v2.ToDtype(torch.float32, scale=True)
        return v2.Compose([v2.Resize(64), to_float, v2.Normalize([0.5] * 3, [0.5] * 3)])

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        _SEEN.append(len(image))
        flat = self.model(image)
        return torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe of the repository, with a small model; the hub of this machine has the samples."""
    from lazyslide_models import MODEL_REGISTRY

    monkeypatch.setitem(MODEL_REGISTRY, "uni2", _Network)
    _SEEN.clear()
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.read_text() + _QUICK)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "made").mkdir()
    with serving() as web:
        hub_data_set(web, "MahmoodLab/hest", hest_samples(tmp_path / "made"))
        yield as_hub(web, monkeypatch, tmp_path / "hub")


def test_the_recipe_goes_from_the_hub_to_a_graded_model_that_may_not_be_published(
    recipe: Path, hub: Web, tmp_path: Path
) -> None:
    machine = Machine("cpu", 1, tmp_path / "cache")
    built = build(recipe, tmp_path / "breast.hespotex", data=tmp_path / "data", machine=machine)
    bundle = read_model(built.path)
    assert bundle.encoder.name == "lazyslide:uni2"
    assert [s.section_id for s in bundle.sections] == [f"TENX{k}" for k in range(6)]
    assert len({s.patient_id for s in bundle.sections}) == 3
    assert bundle.config.folds.by == "patient"
    assert bundle.validation["folds_by"] == "patient"
    # What the metadata state counts, not the resolution of the slide.
    metadata_mpp = {s.mpp for s in bundle.sections}
    assert max(metadata_mpp) < 2
    said = refusal(
        command(
            "models",
            "push",
            built.path,
            tmp_path / "sent",
            "--licence",
            "mit",
            "--data-licence",
            "cc-by-nc-sa-4.0",
        )
    )
    assert "uni2" in said.lower()
    assert not (tmp_path / "sent").exists()


def test_sections_that_jobs_of_an_array_encoded_are_not_encoded_again(
    recipe: Path, hub: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
    machine = Machine("cpu", 1)
    manifest = fetch("hest", tmp_path / "data", ids=["Breast"])
    for name in ("TENX0", "TENX1"):
        done = command(
            "models", "encode", recipe, "--manifest", manifest, "--sections", name, "--threads", "1"
        )
        assert done.exit_code == 0, done.output
    known = sum(_SEEN)
    assert known > 0
    _SEEN.clear()
    encode_for(recipe, manifest, sections=["TENX0", "TENX1"], machine=machine)
    # Every time a network is loaded it sees one example, and nothing else now.
    assert sum(_SEEN) <= 2
    encode_for(recipe, manifest, sections=["TENX0", "TENX2"], machine=machine)
    assert sum(_SEEN) > 10


def test_another_organ_of_the_set_is_asked_for_by_its_name(
    recipe: Path, hub: Web, tmp_path: Path
) -> None:
    said = refusal(
        command("models", "build", recipe, "--ids", "Lung", "--out", tmp_path / "m.hespotex")
    )
    assert "organs: Breast), found 'lung'" in said
