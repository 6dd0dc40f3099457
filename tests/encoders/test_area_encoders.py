"""Networks read by area: which can be, and that cells hold what patches say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch

from hespotex.encoders import Encoder, get_encoder, offline
from hespotex.encoders.area import chain_of, n_early, not_by_area
from hespotex.encoders.base import CELL_PX, Engine, Tile
from hespotex.encoders.timm_encoders import TimmEncoder
from hespotex.features.area import TILE

SIDE = 224 // CELL_PX


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def patches() -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(60, 250, (2, 14, 14, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)


def resnet(threads: int = 1) -> Encoder:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False, num_classes=0).eval()
    network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (3, 224, 224)}
    return TimmEncoder("timm:r", network, device="cpu", threads=threads, engine="torch")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite0-pooled", "resnet"])
def test_the_cells_of_a_patch_without_a_halo_say_what_the_patch_says(
    name: str, patches: npt.NDArray[np.uint8]
) -> None:
    encoder = resnet() if name == "resnet" else get_encoder(name, threads=1, engine="torch")
    assert encoder.not_by_area() == ""
    reader = encoder.by_area(Tile(cells=SIDE, halo=0))
    cells = reader.moments(patches)
    assert cells.shape[:3] == (2, SIDE, SIDE)
    found = reader.features(cells.mean(axis=(1, 2), dtype=np.float64))
    np.testing.assert_allclose(found, encoder.encode(patches), atol=2e-4)


@pytest.mark.slow
def test_a_patch_in_a_corner_of_its_tile_is_off_by_less_than_two_hundredths_of_the_spread() -> None:
    coarse = np.random.default_rng(1).integers(60, 250, (80, 80, 3)).astype(np.uint8)
    picture = np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1)  # 40 cells a side
    encoder = get_encoder("efficientnet-lite0", threads=1, engine="torch")

    def cells(tile: Tile, at: int) -> npt.NDArray[np.float32]:
        part = slice((at - tile.halo) * CELL_PX, (at + tile.cells + tile.halo) * CELL_PX)
        found: npt.NDArray[np.float32] = encoder.by_area(tile).moments(picture[None, part, part])[0]
        return found

    def features(own: npt.NDArray[np.float32], at: int = 0) -> npt.NDArray[np.float32]:
        pooled = own[at : at + SIDE, at : at + SIDE].mean(axis=(0, 1), dtype=np.float64)
        return encoder.by_area(TILE).features(pooled[None])[0]

    exact = cells(Tile(cells=12, halo=14), 14)
    spread = np.std([features(exact, at) for at in range(5)], axis=0)
    moved = (features(cells(Tile(cells=SIDE, halo=TILE.halo), 14)) - features(exact)) / spread
    assert np.sqrt(np.mean(np.square(moved))) < 0.02
    bare = (features(cells(Tile(cells=SIDE, halo=1), 14)) - features(exact)) / spread
    assert np.sqrt(np.mean(np.square(bare))) > 0.1  # a halo is needed


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("efficientnet_b0", "SqueezeExcite"),
        ("mobilenetv3_small_050", "SqueezeExcite"),
        ("ecaresnet26t", "looks at the whole image"),
        ("vit_tiny_patch16_224", "whole image"),
        ("convnextv2_atto", "GlobalResponseNorm"),
    ],
)
def test_a_network_that_looks_at_the_whole_image_is_not_read_by_area(name: str, why: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=0)
    assert why in not_by_area(network)


@pytest.mark.parametrize(
    "name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "mobilenetv1_100"]
)
def test_a_network_of_local_layers_is_read_by_area(name: str) -> None:
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    assert not_by_area(network) == ""


def test_a_network_whose_head_takes_the_maximum_is_not_read_by_area() -> None:
    network = timm.create_model("resnet10t", pretrained=False, num_classes=0, global_pool="max")
    assert not_by_area(network.eval()) == "its head does more than average the map"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite0-pooled", "resnet"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_two_phases_over_the_same_pixels_say_what_one_says(
    name: str, engine: Engine, patches: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hespotex.encoders.timm_encoders.n_early", lambda *_: 6)  # no halo here
    encoder = resnet() if name == "resnet" else get_encoder(name, threads=1, engine=engine)
    whole = Tile(cells=SIDE, halo=0)
    two = encoder.in_two(whole, Tile(cells=SIDE - 4, halo=2))
    assert two is not None
    early = two.first(patches)
    n = early.shape[3] - two.n_map
    late = two.then(np.ascontiguousarray(early[..., n:]))
    found = np.concatenate([early[:, 2:-2, 2:-2, :n], late], axis=3)
    expected = encoder.by_area(whole).moments(patches)[:, 2:-2, 2:-2]
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_the_stated_split_of_the_offline_encoder_is_the_one_that_is_found() -> None:
    network = offline.build_model()
    modules = chain_of(network)
    found = n_early(modules, halo=2)
    assert list(modules[2:found]) == list(network.blocks[: offline.N_EARLY])


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "regnetx_002"])
def test_a_chain_of_layers_is_parted_where_a_narrow_halo_ends_to_do(name: str) -> None:
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    modules = chain_of(network)
    assert 0 < n_early(modules, halo=2) < len(modules)
    assert n_early(modules, halo=1) <= n_early(modules, halo=2)


def test_a_network_that_is_no_chain_is_read_in_one_phase() -> None:
    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(3, 4, 1)

        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x)

    assert chain_of(Sum().eval()) == []
