"""What all losses of the family take alike: dtypes, frozen features, compilers, micro-batches."""

import pytest
import torch

import fastclip
from fastclip.train.step.cached import cached_step
from tests.support.dense import views

N, D = 24, 16
LABELS = torch.arange(N) % 5
PAIR = [("image", "text")]


def info_nce_with_negatives(x, y, **options):
    return fastclip.info_nce_loss(x, y, x.detach().flip(0)[:9], **options)


# Functions of two views and of the options that all take.
LOSSES = {
    "info_nce": fastclip.info_nce_loss,
    "info_nce with negatives": info_nce_with_negatives,
    "nt_xent": fastclip.nt_xent_loss,
    "sup_con": lambda x, y, **options: fastclip.sup_con_loss(
        torch.cat([x, y]), LABELS.repeat(2), **options
    ),
    "uni_cl": lambda x, y, **options: fastclip.uni_cl_loss(x, y, LABELS, **options),
    "dcl": lambda x, y, **options: fastclip.dcl_loss(x, y, sigma=0.5, **options),
    "info_loob": fastclip.info_loob_loss,
    "multiple_negatives": lambda x, y, **options: fastclip.multiple_negatives_loss(
        x, y, [y.flip(0)], hardness_mode="all_negatives", hardness_strength=5.0,
        directions=("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"), **options,
    ),
    "modalities": lambda x, y, **options: fastclip.modalities_loss(
        {"image": x, "text": y}, PAIR, **options
    ),
}  # fmt: skip
MODULES = {
    "InfoNCELoss": (fastclip.InfoNCELoss, 2),
    "NTXentLoss": (fastclip.NTXentLoss, 2),
    "SupConLoss": (fastclip.SupConLoss, 1),
    "UniCLLoss": (fastclip.UniCLLoss, 2),
    "DCLLoss": (fastclip.DCLLoss, 2),
    "InfoLOOBLoss": (fastclip.InfoLOOBLoss, 2),
    "MultipleNegativesLoss": (fastclip.MultipleNegativesLoss, 2),
}
LABELLED = ("SupConLoss", "UniCLLoss")


def gradients(loss, features, **options):
    leaves = [x.clone().requires_grad_() for x in features]
    return torch.autograd.grad(loss(*leaves, **options), leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_16_bit_features_have_a_loss_in_float32(name, dtype):
    features = [x.to(dtype) for x in views(2, N, D)]
    loss = LOSSES[name]
    value = loss(*features, logit_scale=14.3)
    exact = loss(*(x.double() for x in features), logit_scale=14.3)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
    found = gradients(loss, features, logit_scale=14.3)
    expected = gradients(loss, [x.double() for x in features], logit_scale=14.3)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        error = (one.double() - other).norm() / other.norm()
        assert error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", LOSSES)
def test_rows_may_be_raw_or_unit_and_of_any_strides(name):
    features = views(2, N, D)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in features]
    expected = LOSSES[name](*features)
    raw = LOSSES[name](*unit, normalize=False)
    strided = LOSSES[name](*(x.T.contiguous().T for x in features))
    torch.testing.assert_close(raw, expected)
    torch.testing.assert_close(strided, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_one_side_may_be_frozen_and_both(name):
    x, y = views(2, N, D)
    whole = gradients(LOSSES[name], (x, y), temperature=0.1)
    for i in (0, 1):
        features = [x, y]
        features[i] = features[i].clone().requires_grad_()
        (found,) = torch.autograd.grad(LOSSES[name](*features, temperature=0.1), features[i])
        if name != "info_nce with negatives":
            torch.testing.assert_close(found, whole[i])
    with torch.no_grad():
        assert not LOSSES[name](x, y).requires_grad


@pytest.mark.parametrize("name", LOSSES)
def test_nan_reaches_the_loss(name):
    x, y = views(2, N, D)
    x[3, 2] = float("nan")
    assert LOSSES[name](x, y).isnan()


@pytest.mark.compilers
@pytest.mark.parametrize("name", MODULES)
def test_modules_compile_into_one_graph_and_keep_their_options(name):
    make, num = MODULES[name]
    inputs = [*(x.float() for x in views(num, N, D)), *((LABELS,) if name in LABELLED else ())]
    loss = make(temperature=0.2, backend="chunked")
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), loss(*inputs))
    assert "temperature=0.2" in repr(loss) and "backend='chunked'" in repr(loss)
    with pytest.raises(ValueError, match="nonsense"):
        make(backend="nonsense")(*inputs)
    with pytest.raises(ValueError, match=r"world_size=2 needs a group"):
        make(world_size=2)(*inputs)
    with pytest.raises(ValueError, match="one number by two names"):
        loss(*inputs, logit_scale=5.0)
    with pytest.raises(ValueError, match=r"schedule must be one of \('gather', 'ring'\), got 'tr"):
        make(schedule="tree")
    del loss.schedule  # as of a module that was pickled before there were two
    torch.testing.assert_close(loss(*inputs), make(temperature=0.2, schedule="ring")(*inputs))


class Tower(torch.nn.Module):
    num_features = D

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(D, D)

    def forward(self, x):
        return self.layer(x).tanh()


def make_model():
    torch.manual_seed(0)
    return fastclip.TwoTower(Tower(), Tower(), embed_dim=8).double()


@pytest.mark.parametrize("name", ["NTXentLoss", "DCLLoss", "InfoLOOBLoss"])
def test_a_step_in_micro_batches_has_the_gradients_of_the_whole(name):
    images, texts = views(2, N, D)
    loss = getattr(fastclip, name)()
    model, cached = make_model(), make_model()
    loss(*model(images, texts)).backward()
    cached_step(cached, (images, texts), loss, 5)
    for one, other in zip(cached.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-13)
