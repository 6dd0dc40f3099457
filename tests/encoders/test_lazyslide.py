"""Encoders of lazyslide-models: their own transform and features, whatever it does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from hespotex.encoders import get_encoder
from hespotex.errors import EncoderError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lazyslide_models import MODEL_REGISTRY, ImageModel, ModelTask, register

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.25, 0.3)


def plain() -> Any:
    return v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((24, 24)),
            v2.Normalize(MEAN, STD),
        ]
    )


def cropping() -> Any:
    return v2.Compose(
        [v2.ToImage(), v2.Resize(32), v2.CenterCrop(24), v2.ToDtype(torch.float32, scale=True),
         v2.Normalize(MEAN, STD)]
    )  # fmt: skip


def opaque() -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: torch.nn.functional.interpolate(image.float(), (20, 20)) / 255


@pytest.fixture
def add() -> Iterator[Callable[[Any], str]]:
    """Register a tiny encoder with a given transform for the length of a test."""

    def build(transform: Callable[[], Any]) -> str:
        @register(key="hespotex-tiny", task=ModelTask.vision, license=["MIT", "BSD"], encode_dim=3)
        class Tiny(ImageModel):  # type: ignore[misc]
            def __init__(self, model_path: Path | None = None, token: str | None = None) -> None:
                self.model = torch.nn.AdaptiveAvgPool2d(1)

            def get_transform(self) -> Any:
                return transform()

            def encode_image(self, image: torch.Tensor) -> torch.Tensor:
                assert image.dtype == torch.float32
                return self.model(image).flatten(1)

        return "lazyslide:hespotex-tiny"

    yield build
    MODEL_REGISTRY.pop("hespotex-tiny", None)


def colours(size: int) -> tuple[Any, Any]:
    values = np.random.default_rng(0).integers(0, 256, (6, 3)).astype(np.uint8)
    return np.broadcast_to(values[:, None, None], (6, size, size, 3)).copy(), values / 255.0


def test_the_transform_is_the_encoders_own(add: Callable[[Any], str]) -> None:
    encoder = get_encoder(add(plain), threads=1)
    assert (encoder.size_px, encoder.dim, encoder.mpp) == (24, 3, None)
    assert (encoder.mean, encoder.std, encoder.licence) == (MEAN, STD, "MIT, BSD")
    patches, values = colours(24)
    np.testing.assert_allclose(encoder.encode(patches), (values - MEAN) / STD, atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(patches[:2]), encoder.encode(patches)[:2])


def test_a_transform_that_crops_gets_the_size_it_crops_from(add: Callable[[Any], str]) -> None:
    encoder = get_encoder(add(cropping), threads=1)
    assert encoder.size_px == 32
    patches, _ = colours(32)
    patches[:, :4], patches[:, -4:] = 0, 0  # what is cropped away does not matter
    _, values = colours(32)
    np.testing.assert_allclose(encoder.encode(patches), (values - MEAN) / STD, atol=1e-5)


def test_a_transform_of_unknown_steps_is_asked_for_its_size(add: Callable[[Any], str]) -> None:
    encoder = get_encoder(add(opaque), threads=1)
    assert encoder.size_px == 20
    assert encoder.mean == encoder.std == ()
    patches, values = colours(20)
    np.testing.assert_allclose(encoder.encode(patches), values, atol=1e-5)


def test_another_transform_is_another_encoder(add: Callable[[Any], str]) -> None:
    first = get_encoder(add(plain)).key()
    assert get_encoder("lazyslide:hespotex-tiny").key() == first
    MODEL_REGISTRY.pop("hespotex-tiny")
    assert get_encoder(add(cropping)).key() != first


def test_a_model_that_needs_a_package_says_which() -> None:
    if "conch" not in MODEL_REGISTRY:
        pytest.skip("this lazyslide-models has no conch")
    with pytest.raises(
        EncoderError, match=r"encoder lazyslide:conch: a package is missing: Conch is not"
    ):
        get_encoder("lazyslide:conch")
