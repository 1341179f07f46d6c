"""The linear maps between ranks: what they map, and that each derivative is the adjoint."""

import torch

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.exchange import gather_rows, send_to_owners, sum_over_ranks

SIZES = (3, 1, 4)
N, D = sum(SIZES), 2


def own_rows(group):
    ranks = Ranks(group, group.rank(), SIZES)
    return ranks, torch.randn(N, D, generator=torch.Generator().manual_seed(group.rank()))


def maps(group):
    ranks, x = own_rows(group)
    return x, gather_rows(x[: ranks.own_size], ranks), send_to_owners(x, ranks)


def test_rows_arrive_in_the_order_of_ranks(ranks):
    results = ranks.run(3, maps)
    everyone = torch.cat([x[:size] for (x, _, _), size in zip(results, SIZES, strict=True)])
    for rank, (_, gathered, received) in enumerate(results):
        assert torch.equal(gathered, everyone)
        of_owner = torch.stack([x.split(SIZES)[rank] for x, _, _ in results])
        assert torch.equal(received, of_owner)


def inner_products(group):
    """<A x, y> and <x, A* y> of this rank for each map; the adjoint of A* is A again."""
    ranks, x = own_rows(group)
    products = []
    for function, source in ((gather_rows, x[: ranks.own_size]), (send_to_owners, x)):
        source = source.clone().requires_grad_()
        image = function(source, ranks)
        y = torch.randn(image.shape, generator=torch.Generator().manual_seed(9 + ranks.rank))
        y.requires_grad_()
        (adjoint,) = torch.autograd.grad(image, source, y, create_graph=True)
        (again,) = torch.autograd.grad(adjoint, y, source)
        assert torch.equal(again, image)
        products.append(((image * y).sum().item(), (source * adjoint).sum().item()))
    return products


def test_derivatives_are_the_adjoints(ranks):
    of_ranks = torch.tensor(ranks.run(3, inner_products)).double()  # (ranks, maps, 2)
    left, right = of_ranks.sum(0).unbind(1)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=0)


def sum_and_derivative(group):
    ranks, x = own_rows(group)
    x.requires_grad_()
    total = sum_over_ranks(x, ranks)
    (gradient,) = torch.autograd.grad(total, x, torch.ones_like(total))
    return x.detach(), total.detach(), gradient


def test_sum_is_the_same_on_all_ranks_and_its_derivative_the_number_of_ranks(ranks):
    results = ranks.run(3, sum_and_derivative)
    for _, total, gradient in results:
        assert torch.equal(total, torch.stack([x for x, _, _ in results]).sum(0))
        assert (gradient == 3).all()
