"""Weights from a hub: the true reason why they are not here, and encoders from local ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from timm.models import save_for_hf

from hespotex.encoders import get_encoder
from hespotex.encoders.hub import explain
from hespotex.errors import EncoderError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def local(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """A tiny trained network in a folder, as timm saves one for the hub."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=3, num_classes=5
    ).eval()
    config = {
        "input_size": (3, 32, 32), "mean": (0.7, 0.5, 0.6), "std": (0.2, 0.25, 0.3),
        "license": "mit", "num_classes": 5,
    }  # fmt: skip
    model.pretrained_cfg.update(config)
    folder = tmp_path / "tiny"
    model_args = {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 3}
    save_for_hf(model, folder, model_config={"model_args": model_args}, safe_serialization=True)
    return folder, model


@pytest.mark.slow
def test_a_timm_network_brings_its_own_preprocessing(local: tuple[Path, torch.nn.Module]) -> None:
    folder, model = local
    name = f"timm:local-dir:{folder}"
    encoders = [get_encoder(name, threads=1, engine=e) for e in ("torch", "openvino")]
    patches = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    mean, std = torch.tensor([0.7, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    with torch.inference_mode():
        given = (torch.from_numpy(patches).float() / 255 - mean) / std
        model.reset_classifier(0)
        expected = model(given.permute(0, 3, 1, 2)).numpy()
    for encoder in encoders:
        assert (encoder.name, encoder.dim, encoder.size_px) == (name, 24, 32)
        assert encoder.mean == pytest.approx((0.7, 0.5, 0.6))
        assert encoder.std == pytest.approx((0.2, 0.25, 0.3))
        assert encoder.licence == "mit"
        np.testing.assert_allclose(encoder.encode(patches), expected, atol=1e-4)
    assert encoders[0].key() == encoders[1].key()


def test_a_network_without_trained_weights_is_refused() -> None:
    untrained = next(n for n in timm.list_models() if not timm.is_model_pretrained(n))
    with pytest.raises(
        EncoderError, match=f"encoder timm:{untrained}: timm has no trained weights"
    ):
        get_encoder(f"timm:{untrained}")


def test_weights_in_the_local_cache_need_no_hub(
    local: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timm:<name>` finds what the hub's client stored on this machine before."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.manual_seed(1)
    stored = timm.create_model("test_vit.r160_in1k", pretrained=False).eval()
    repository = tmp_path / "hub" / "models--timm--test_vit.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    save_for_hf(stored, snapshot, safe_serialization=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = get_encoder("timm:test_vit.r160_in1k", threads=1, engine="torch")
    size = encoder.size_px
    patches = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    mean, std = torch.tensor(encoder.mean), torch.tensor(encoder.std)
    stored.reset_classifier(0)
    with torch.inference_mode():
        given = (torch.from_numpy(patches).float() / 255 - mean) / std
        expected = stored(given.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(encoder.encode(patches), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet18",
        "timm:vit_giant_patch14_clip_224",
        "timm:hf-hub:nobody/nothing",
        "lazyslide:phikon",
    ],
)
def test_offline_the_true_reason_comes_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(EncoderError) as caught:
        get_encoder(name)
    message = str(caught.value)
    assert message.startswith(
        f"encoder {name}: its weights are not on this machine and HF_HUB_OFFLINE"
    )
    assert str(tmp_path / "empty") in message
    assert message.endswith("`efficientnet-lite0` needs no download")
    assert "\n" not in message


def _raised(
    kind: type[BaseException], text: str, cause: BaseException | None = None
) -> BaseException:
    try:
        raise kind(text) from cause
    except kind as error:
        return error


def test_each_reason_has_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    gated = type("GatedRepoError", (OSError,), {})
    missing = type("RepositoryNotFoundError", (OSError,), {})
    for error, found in [
        (
            _raised(gated, "403"),
            "gated: ask for access on its Hugging Face page, then run `hf auth",
        ),
        (_raised(OSError, "x", _raised(gated, "403")), "gated"),
        (_raised(missing, "404"), "not on the hub or is private"),
        (_raised(ImportError, "no conch\nsecond line"), "a package is missing: no conch;"),
        (
            _raised(OSError, "x", _raised(ConnectionError, "refused")),
            r"cannot be reached \(refused\)",
        ),
        (_raised(ValueError, "odd\nthing"), "cannot be loaded: odd;"),
    ]:
        with pytest.raises(EncoderError, match=f"encoder e: .*{found}"):
            raise explain("e", error)
