"""Networks read by area: which can be, and that cells hold what patches say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch

from hespotex.encoders import Encoder, get_encoder, offline
from hespotex.encoders.area import ONE, TWO, chain_of, n_early, not_by_area
from hespotex.encoders.base import CELL_PX, Tile
from hespotex.encoders.timm_encoders import TimmEncoder

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

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
    reader = encoder.by_area([Tile(cells=SIDE, halo=0)])
    cells = reader.phases[0].cells(patches)
    assert cells.shape[:3] == (2, SIDE, SIDE)
    found = reader.features(cells.mean(axis=(1, 2), dtype=np.float64))
    np.testing.assert_allclose(found, encoder.encode(patches), atol=2e-4)


def in_phases(encoder: Encoder, tiles: Sequence[Tile], picture: Picture) -> Floats:
    """(b, cells, cells, K) of the inner cells that the last phase tells of, all numbers of all phases."""
    told, given, n = [], picture, tiles[-1].cells
    for phase in encoder.by_area(tiles).phases:
        found = phase.cells(given)
        end = found.shape[3] - phase.n_map
        cut = (phase.tile.cells - n) // 2
        told.append(found[:, cut : cut + n, cut : cut + n, :end])
        given = np.ascontiguousarray(found[..., end:])
    return np.concatenate(told, axis=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite0-pooled"])
def test_six_phases_that_cut_off_what_a_border_changes_say_what_one_says(name: str) -> None:
    coarse = np.random.default_rng(1).integers(60, 250, (1, 66, 66, 3)).astype(np.uint8)
    picture = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)  # 33 cells a side
    inner = picture[:, 16:-16, 16:-16]  # the first phase cuts half a cell off
    encoder = get_encoder(name, threads=1, engine="torch")
    halos, sides = [tile.halo for tile in offline.TILES], [33]
    for halo in halos:
        sides.append(round(sides[-1] - 2 * halo))
    tiles = [Tile(side, halo) for side, halo in zip(sides[1:], halos, strict=True)]
    exact = encoder.by_area([Tile(4, 14)]).phases[0].cells(inner)
    found = in_phases(encoder, tiles, picture)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(found, exact, atol=1e-5 * np.abs(exact).max())
    narrow = encoder.by_area([Tile(4, 5)]).phases[0].cells(inner[:, 288:-288, 288:-288])
    assert np.abs(narrow - exact).max() > 1e-2 * np.abs(exact).max()  # as many are needed


def test_the_offline_encoder_is_parted_in_six_or_not_at_all() -> None:
    encoder = get_encoder("efficientnet-lite0", threads=1, engine="torch")
    with pytest.raises(ValueError, match="one phase or 6, found 2"):
        encoder.by_area(offline.TILES[:2])


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
def test_two_phases_over_the_same_pixels_say_what_one_says(
    patches: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hespotex.encoders.timm_encoders.n_early", lambda *_: 6)  # no halo here
    encoder, whole = resnet(), Tile(cells=SIDE, halo=0)
    found = in_phases(encoder, [whole, Tile(cells=SIDE - 4, halo=2)], patches)
    expected = encoder.by_area([whole]).phases[0].cells(patches)[:, 2:-2, 2:-2]
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_a_network_has_as_many_phases_as_its_layers_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resnet().area_tiles() == TWO
    monkeypatch.setattr("hespotex.encoders.timm_encoders.chain_of", lambda _: [])
    assert resnet().area_tiles() == ONE
    with pytest.raises(ValueError, match="timm:r is not parted"):
        resnet().by_area(TWO)


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
