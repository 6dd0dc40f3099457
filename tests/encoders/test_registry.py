"""The registry: which encoders there are, what is on this machine, and what a wrong name says."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from huggingface_hub import constants

from hespotex.encoders import get_encoder, list_encoders
from hespotex.encoders.lazyslide_listing import list_lazyslide
from hespotex.errors import EncoderError

OFFLINE = ["efficientnet-lite0", "efficientnet-lite0-pooled"]


def put_in_cache(folder: Path, repository: str, file: str = "model.safetensors") -> None:
    """A repository as the hub's client lays it out."""
    snapshot = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / file).write_bytes(b"weights")


def test_the_short_listing_loads_no_torch() -> None:
    code = (
        "import sys\nfrom hespotex.encoders import list_encoders\nrows = list_encoders(lazyslide=False)\n"
        "assert [r.name for r in rows if ':<' in r.name] == ['timm:<name>', 'lazyslide:<name>']\n"
        "assert not {'torch', 'timm', 'lazyslide_models'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_the_default_comes_first_and_is_here() -> None:
    first = list_encoders()[0]
    assert (first.name, first.dim, first.size_px, first.weights_here) == (
        "efficientnet-lite0", 1568, 224, True,
    )  # fmt: skip


@pytest.mark.slow
def test_weights_in_the_local_cache_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    offline = [r.name for r in list_encoders() if r.weights_here]
    assert offline[: len(OFFLINE)] == OFFLINE
    put_in_cache(tmp_path, "timm/resnet18.a1_in1k")
    put_in_cache(tmp_path, "MahmoodLab/uni", "pytorch_model.bin")
    put_in_cache(tmp_path, "paige-ai/Virchow2", "config.json")  # no weights yet
    here = [r.name for r in list_encoders() if r.weights_here]
    assert sorted(set(here) - set(offline)) == ["lazyslide:uni", "timm:resnet18.a1_in1k"]


def test_the_listing_of_lazyslide_is_that_of_its_registry() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lazyslide_models import MODEL_REGISTRY, ModelTask
    rows = {r.name.removeprefix("lazyslide:"): r for r in list_lazyslide(())}
    expected = set()
    for key, kind in MODEL_REGISTRY.items():
        tasks = set(kind.task if isinstance(kind.task, list) else [kind.task])
        if tasks & {ModelTask.vision, ModelTask.multimodal} and hasattr(kind, "encode_image"):
            expected.add(key)
    assert set(rows) == expected
    for key, row in rows.items():
        kind = MODEL_REGISTRY[key]
        assert row.dim == kind.encode_dim, key
        stated = kind.license if isinstance(kind.license, str) else ", ".join(kind.license)
        assert row.licence == stated, key
        assert ("gated" in row.note) == bool(kind.is_gated), key
        assert row.source in {kind.hf_url, kind.github_url}, key


def test_without_lazyslide_its_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hespotex.encoders.lazyslide_listing._PACKAGE", "no_such_package_at_all")
    (row,) = list_lazyslide(())
    assert row == list_encoders(lazyslide=False)[-1]
    assert row.name == "lazyslide:<name>"
    assert "pip install 'hespotex[lazyslide]'" in row.note


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "resnet50",
            r"expected efficientnet-lite0, .*timm:<name>.*lazyslide:<name>.* as encoder, found 'resnet50'",
        ),
        ("uni2", r"found 'uni2'; similar: lazyslide:uni2, .*; `hespotex encoders` lists them"),
        ("timm:resnet5", r"knows no model of that name; similar: timm:resnet"),
        ("timm:qqqqqqqq", r"knows no model of that name; timm\.list_models"),
        ("lazyslide:uni3", r"registers no model of that name; similar: .*lazyslide:uni2"),
        (
            "lazyslide:gigapath-slide-encoder",
            r"a model for slide_encoder, not an encoder of patches",
        ),
    ],
)
def test_a_wrong_name_is_said(name: str, found: str) -> None:
    with pytest.raises(EncoderError, match=found):
        get_encoder(name)


def test_a_wrong_engine_is_said() -> None:
    with pytest.raises(EncoderError, match="engines auto, openvino, torch, found 'tpu'"):
        get_encoder("efficientnet-lite0", engine="tpu")


def test_a_lazyslide_that_cannot_be_loaded_hides_no_other_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise ImportError("torchvision is of another torch")

    monkeypatch.setattr("hespotex.encoders.lazyslide_listing.registered_models", broken)
    *others, last = list_encoders()
    assert [r.name for r in others][:2] == OFFLINE
    assert last.name == "lazyslide:<name>"
    assert last.note == "lazyslide-models cannot be loaded: torchvision is of another torch"
