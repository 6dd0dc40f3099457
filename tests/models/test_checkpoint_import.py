"""Reference checkpoints: equal to golden, strict about tensors, never run."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from hespotex.config import RunConfig
from hespotex.errors import ModelFileError
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.models.published.checkpoint_import import import_checkpoint
from hespotex.models.published.published import predict_published
from hespotex.models.types import EncoderRecord

GENES = [f"G{i}" for i in range(17)]


def saved(state, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)
    return path


def predicted(model, golden):
    values = golden("decoder_forward")
    return predict_published(
        model, values["features"], values["xy_px"], values["nuclei_factor"]
    ), values["expression_hat"]


def test_prediction_equals_golden_and_the_encoder_is_kept(golden_model, golden):
    ours, theirs = predicted(golden_model, golden)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert golden_model.hyper["encoder"] == "efficientnet-lite0"
    assert golden_model.hyper["latent_size"] == 5


def test_an_imported_model_survives_its_own_file(golden_model, golden, tmp_path):
    half = (0.5, 0.5, 0.5)
    bundle = Bundle(
        config=RunConfig(profile="published"),
        genes=tuple(GENES),
        training_totals=(),
        encoder=EncoderRecord("efficientnet-lite0", "k", 512, 224, half, half),
        sides_um=(55.0,),
        spot_pitch_um=100.0,
        spot_diameter_um=55.0,
        sections=(),
        model=golden_model,
    )
    write_model(tmp_path / "m.hespotex", bundle)
    ours, theirs = predicted(read_model(tmp_path / "m.hespotex").model, golden)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {**s, "text_head.weight": torch.zeros(3), "epoch": 7},
        lambda s: {"module." + k: v for k, v in s.items()},
        lambda s: {"epoch": 3, "state_dict": {"model." + k: v for k, v in s.items()}},
    ],
    ids=["extra names", "prefix of DataParallel", "wrapped with a prefix"],
)
def test_extra_names_prefixes_and_wrappers_do_not_matter(wrap, golden_state, golden, tmp_path):
    path = saved(wrap(dict(golden_state)), tmp_path)
    ours, theirs = predicted(import_checkpoint(path, GENES, "e"), golden)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_a_checkpoint_trained_without_nuclei_needs_none(golden_state, golden, tmp_path):
    values = golden("decoder_forward")
    model = import_checkpoint(saved(golden_state, tmp_path), GENES, "e", uses_nuclei=False)
    ours = predict_published(model, values["features"], values["xy_px"])
    np.testing.assert_allclose(
        ours * values["nuclei_factor"], values["expression_hat"], rtol=0, atol=1e-12
    )


def test_all_missing_and_misshapen_tensors_are_listed_at_once(golden_state, tmp_path):
    state = dict(golden_state)
    del state["image_decoder.2.weight"], state["gene_head.3.bias"]
    state["latent_head.2.bias"] = torch.zeros(7)
    state["jknet.0.bias_hh_l1"] = torch.full((68,), torch.nan)
    state["gene_head.0.bias"] = torch.zeros(1024, dtype=torch.int64)
    with pytest.raises(ModelFileError) as caught:
        import_checkpoint(saved(state, tmp_path), GENES, "e")
    message = str(caught.value)
    for part in (
        "checkpoint.pt, found 5 wrong tensors",
        "image_decoder.2.weight is missing",
        "gene_head.3.bias is missing",
        "latent_head.2.bias has shape (7,), expected (1024,)",
        "jknet.0.bias_hh_l1 holds values that are not finite",
        "gene_head.0.bias is torch.int64, not a float tensor",
        "check that the file and the gene list belong together",
    ):
        assert part in message
    assert "\n" not in message


def test_a_gene_list_of_another_length_names_both_shapes(golden_state, tmp_path):
    match = r"for 16 genes .*gene_head\.3\.weight has shape \(17, 1024\), expected \(16, 1024\)"
    with pytest.raises(ModelFileError, match=match):
        import_checkpoint(saved(golden_state, tmp_path), GENES[:-1], "e")


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(writer, tmp_path):
    path, marker = tmp_path / "attack.pt", tmp_path / "was_run"
    content = {"latent_head.0.weight": Attack(str(marker))}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelFileError, match=r"attack\.pt.*wants to run code.*state_dict"):
        import_checkpoint(path, GENES, "e")
    assert not marker.exists()


def test_a_whole_module_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ModelFileError, match=r"save model\.state_dict\(\) with torch\.save"):
        import_checkpoint(saved(torch.nn.Linear(2, 2), tmp_path), GENES, "e")


def test_missing_truncated_and_foreign_files_are_told_apart(golden_state, tmp_path):
    with pytest.raises(ModelFileError, match=r"no\.pt, found nothing"):
        import_checkpoint(tmp_path / "no.pt", GENES, "e")
    with pytest.raises(ModelFileError, match="found a folder"):
        import_checkpoint(tmp_path, GENES, "e")
    whole = saved(golden_state, tmp_path).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=r"half\.pt.*cannot be read.*copy it again"):
        import_checkpoint(tmp_path / "half.pt", GENES, "e")
    with pytest.raises(ModelFileError, match=r"expected a state dict .* found list"):
        import_checkpoint(saved([torch.zeros(1)], tmp_path), GENES, "e")
    (tmp_path / "text.pt").write_text("x,y\n1,2\n")
    with pytest.raises(ModelFileError, match=r"text\.pt"):
        import_checkpoint(tmp_path / "text.pt", GENES, "e")
