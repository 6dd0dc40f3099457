"""Published losses: golden numbers and a case by hand."""

from __future__ import annotations

import numpy as np
import torch

from hespotex.models.layers.losses import expression_mse, gene_pcc_loss, latent_pcc_loss, pcc


def test_losses_equal_golden(golden):
    values = {k: torch.as_tensor(v).double() for k, v in golden("decoder_forward").items()}
    latent = latent_pcc_loss(values["latent_hat"], values["latent_target"])
    mse = expression_mse(values["expression_hat"], values["expression_target"])
    gene = gene_pcc_loss(values["expression_hat"], values["expression_target"])
    # The two PCC losses were stored in float32.
    torch.testing.assert_close(latent, values["latent_pcc_loss"], rtol=0, atol=1e-7)
    torch.testing.assert_close(mse, values["expression_mse"], rtol=0, atol=1e-12)
    torch.testing.assert_close(gene, values["gene_pcc_loss"], rtol=0, atol=1e-7)


def test_pcc_of_opposite_equal_and_constant_columns():
    a = torch.tensor([[1.0, 1, 1], [2, 2, 2], [4, 4, 4]])
    b = torch.tensor([[-1.0, 3, 5], [-2, 5, 5], [-4, 9, 5]])
    np.testing.assert_allclose(pcc(a, b, dim=0), [-1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(gene_pcc_loss(a, b), 1.0, atol=1e-6)


def test_a_constant_prediction_has_a_finite_gradient():
    constant = torch.ones(4, 3, requires_grad=True)
    gene_pcc_loss(constant, torch.arange(12.0).reshape(4, 3)).backward()
    assert constant.grad is not None
    assert torch.isfinite(constant.grad).all()
