"""A fit whose counts and features stand on the disk is, bit for bit, that whose stand in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from helpers.toy_cohort import toy_cohort
from hespotex.config import Machine, ModelConfig, RunConfig
from hespotex.models.default import count_rows
from hespotex.models.default.count_rows import row_reader
from hespotex.models.default.stacked_rows import StackedRows
from hespotex.models.fit import fit_bundle
from hespotex.storage import spill as module
from hespotex.storage.spill import Spill
from hespotex.validation.cross_validation import calibrated, with_baselines

_SHORT = RunConfig(model=ModelConfig(epochs=2, ensemble=2, n_components=8, landmarks=30))


def _heard(mapped, written):
    def told(self, size, *rest):
        written.append(size)
        return mapped(self, size, *rest)

    return told


@pytest.mark.parametrize("small_bytes", [0, 2**26], ids=["sparse", "dense"])
def test_model_and_baselines_do_not_depend_on_where_counts_are_kept(
    small_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr(count_rows, "_SMALL_BYTES", small_bytes)
    monkeypatch.setattr(count_rows, "_SPARSE_BYTES", 0)
    machine, cohort = Machine("cpu", 1, tmp_path), toy_cohort()
    config = _SHORT.with_genes([f"G{j:02d}" for j in range(29)])  # another panel than the table

    def fitted():
        bundle = fit_bundle(cohort, config, machine=machine)
        return with_baselines(bundle, cohort, nearest_spots=50, machine=machine)

    in_memory = fitted()
    monkeypatch.setattr(module, "BUDGET", 0)
    written: list[int] = []
    monkeypatch.setattr(Spill, "_mapped", _heard(Spill._mapped, written))
    on_disk = fitted()
    # Values and columns of four sections, twice, and what the networks read.
    assert len(written) >= 2 * 2 * 4 + 1
    assert in_memory.model_id == on_disk.model_id
    for name, array in {**in_memory.model.tensors, **in_memory.trust}.items():
        there = {**on_disk.model.tensors, **on_disk.trust}[name]
        np.testing.assert_array_equal(there, array, err_msg=name)


@pytest.mark.parametrize("most", [2**31 - 1, 60, 1])
@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_are_found_in_whichever_sparse_table_they_stand(most, on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(count_rows, "_SMALL_BYTES", 0)
    monkeypatch.setattr(count_rows, "_MOST_ENTRIES", most)
    whole = np.random.default_rng(1).poisson(0.05, (90, 40)).astype(np.float32)
    parts = [sparse.csr_matrix(p) for p in np.split(whole, [20, 21, 70])]
    rows = torch.tensor([89, 0, 20, 20, 69, 70, 33])
    read = row_reader(parts, "cpu", Spill(lambda: tmp_path, 0) if on_disk else None)
    np.testing.assert_array_equal(read(rows).numpy(), whole[rows.numpy()])


@pytest.mark.slow
def test_intervals_do_not_depend_on_where_errors_are_kept(tmp_path, monkeypatch):
    machine, cohort = Machine("cpu", 1, tmp_path), toy_cohort()
    bundle = fit_bundle(cohort, _SHORT.with_genes([f"G{j:02d}" for j in range(29)]))
    in_memory = calibrated(bundle, cohort, machine=machine)
    monkeypatch.setattr(module, "BUDGET", 0)
    on_disk = calibrated(bundle, cohort, machine=machine)
    assert any(name.startswith("intervals") for name in in_memory.trust)
    for name, array in in_memory.trust.items():
        np.testing.assert_array_equal(on_disk.trust[name], array, err_msg=name)


def test_stacked_rows_are_those_of_the_tables_one_above_the_other():
    parts = [np.random.default_rng(k).normal(size=(n, 3)) for k, n in enumerate((4, 0, 7, 1))]
    whole, stacked = np.concatenate(parts), StackedRows(parts)
    assert len(stacked) == 12
    np.testing.assert_array_equal(stacked.take(np.array([0, 3, 4, 11])), whole[[0, 3, 4, 11]])
    blocks = [stacked.block(rows) for rows in stacked.blocks(5)]
    assert [len(b) for b in blocks] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
