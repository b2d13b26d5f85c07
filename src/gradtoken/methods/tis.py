"""Transformer input sampling: Englebert et al., ICCV workshops 2023."""

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from gradtoken.errors import BadModel, BadTarget, GradTokenError, MissingExtra
from gradtoken.inputs import repeated
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import over_content
from gradtoken.run import Place, Run
from gradtoken.seeds import seeded

MOVED = 0.05  # relative change of the last block's tokens above which they are said to depend on their order


@METHODS.add(
    paper="https://openaccess.thecvf.com/content/ICCV2023W/NIVT/html/"
    "Englebert_Explaining_Through_Transformer_Input_Sampling_ICCVW_2023_paper.html",
    formula="R = sum_i p(M_i) M_i / sum_i M_i, p(M_i) the probability when only the tokens in M_i enter the blocks",
    cost="3 F + (masks + 1) F with the share `ratio` of the tokens",
    needs=("grid", "stream"),
    trial={"masks": 2},
    differs="the authors' k-means is unseeded; all samples share a start here, and each channel is a centroid where "
    "there are few. Tokens that no mask keeps are 0, where the authors' code divides 0 by 0",
)
def tis(
    probe: Probe,
    *,
    masks: int = 1024,
    ratio: float = 0.5,
    generator: Generator | None = None,
    centroids: Tensor | None = None,
) -> Tensor:
    """Mean class probability over the samples of tokens that hold a token: R = sum_i p_i M_i / sum_i M_i.

    Returns (B, K, S). Unit: class probability, in [0, 1]; not conserved. Each mask keeps the largest entries of one
    centroid of all blocks' channels, and the tokens that are no patches. Refuses models whose blocks look at the places
    of tokens themselves, rather than at positions that were added to them before the first block: after some tokens
    are left out, the rest would get others' places.

    masks: number of clusters. ratio: share of the patches that is kept. generator: of the start of k-means.
    centroids: (masks, S) or (B, masks, S) in place of k-means.
    """
    device, S = probe.grid.device, probe.layout.count
    if not 1 / S <= ratio <= 1 or masks < 1:
        raise BadTarget(f"expected at least one mask that keeps 1 to {S} patches, got {masks} of the share {ratio}")
    n = int(ratio * S)
    plain = probe.run(graph=False, probability=True)
    x = plain.value("x", probe.stream[0])
    check_order(probe, plain, n)
    if centroids is None:
        chosen = means(channels(probe, plain), masks, seeded(generator))
    else:
        chosen = list(given(probe, centroids).to(x))
    kept, M = largest(chosen, n)
    p = sampled(probe, x, kept.to(device))  # (m, B, K)
    M = M.to(p)
    R: Tensor = torch.einsum("mbk,mbs->bks", p, M) / M.sum(dim=0).clamp(min=1)[:, None]
    return R


def given(probe: Probe, centroids: Tensor) -> Tensor:
    """(m, S) or (B, m, S) -> (B, m, S)"""
    B, S = probe.batch, probe.layout.count
    if centroids.ndim not in (2, 3) or centroids.shape[-1] != S or (centroids.ndim == 3 and len(centroids) != B):
        raise BadTarget(f"expected centroids (masks, {S}) or ({B}, masks, {S}), got {tuple(centroids.shape)}")
    return centroids.expand(B, -1, S)


def largest(centroids: list[Tensor], n: int) -> tuple[Tensor, Tensor]:
    """Numbers of the n largest entries of each centroid, and M, 1 there. (m, S) for each sample -> (m, B, n), (m, B, S)

    A sample with fewer centroids has masks of zeros at the end.
    """
    kept = [one.topk(n, dim=1).indices for one in centroids]
    M = [torch.zeros_like(one).scatter(1, k, 1) for one, k in zip(centroids, kept, strict=True)]
    return pad_sequence(kept), pad_sequence(M)


def sampled(probe: Probe, x: Tensor, kept: Tensor) -> Tensor:
    """Class probabilities when of the patches only those kept enter the first block. (m, B, n) -> (m, B, K)"""
    rows, p = torch.arange(probe.batch, device=x.device)[:, None], []
    for numbers in micro_batches(probe, len(kept)):
        order = with_others(probe, kept[numbers.start : numbers.stop], x.shape[1])
        found = entered(probe, x[rows, order].flatten(0, 1), start=("x", probe.stream[0]))
        p.append(found.scores.reshape(len(numbers), *probe.scores.shape))
    return torch.cat(p).to(x.dtype)


def entered(probe: Probe, tokens: Tensor, start: Place | None = None) -> Run:
    """A pass in which these tokens enter the first block. (m * B, N', C)"""
    edits = {("x", probe.stream[0]): lambda like: tokens.to(like.dtype)}
    inputs = repeated(probe.inputs, len(tokens) // probe.batch)
    return probe.run(inputs=inputs, edits=edits, start=start, graph=False, probability=True)


def with_others(probe: Probe, patches: Tensor, total: int) -> Tensor:
    """Numbers of these patches among all tokens, between those of the tokens that are none. (..., n) -> (..., N')"""
    first, numbers = probe.layout.first_of(total), torch.arange(total, device=patches.device)
    before, after = numbers[:first], numbers[first + probe.layout.count :]
    shape = patches.shape[:-1]
    return torch.cat([before.expand(*shape, -1), patches + first, after.expand(*shape, -1)], dim=-1)


def check_order(probe: Probe, plain: Run, n: int) -> None:
    """Raise BadModel where a block knows the place of a token by more than the token itself.

    Then shuffled tokens do not give the shuffled result, or fewer tokens no result.
    """
    first, last = probe.stream[0], ends(probe, plain)[-1]
    x, out = plain.value("x", first), plain.value("out", last)
    order = torch.randperm(probe.layout.count, generator=seeded(None)).to(x.device)
    try:
        moved = entered(probe, x[:, with_others(probe, order, x.shape[1])]).value("out", last)
        entered(probe, x[:, with_others(probe, order[:n], x.shape[1])], start=("x", first))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError, AssertionError, GradTokenError) as error:
        raise BadModel(refusal(probe)) from error
    expected = out[:, with_others(probe, order, out.shape[1])]
    spread = (expected - expected.mean(dim=1, keepdim=True)).norm().clamp(min=0.01 * expected.norm())
    if (moved - expected).norm() > MOVED * spread:
        raise BadModel(refusal(probe))


def refusal(probe: Probe) -> str:
    return (
        f"the blocks of {type(probe.net).__name__} look at the places of tokens themselves (relative or rotary "
        "positions, windows, convolutions); with tokens left out the rest would get others' places; use a method that "
        "leaves tokens where they are, such as reciprocam or vit_cx"
    )


# K-means -------------------------------------------------------------------------------------------------------------


def ends(probe: Probe, plain: Run) -> list[int]:
    """Blocks whose output holds the patches."""
    return [block for block in over_content(probe) if ("out", block) in plain.nodes]


def channels(probe: Probe, plain: Run) -> Tensor:
    """Every channel of every block's output over the patches. (B, L * C, S)"""
    outs = [plain.value("out", block).mT for block in ends(probe, plain)]
    return torch.cat([probe.layout.content(x, x.shape[2]) for x in outs], dim=1)


def means(vectors: Tensor, count: int, source: Generator) -> list[Tensor]:
    """Centroids of Euclidean k-means, started at vectors of the same numbers in each sample.

    (B, V, S) -> (m, S) for each sample, m <= count: clusters that become empty are left out.
    """
    try:
        from scipy.cluster.vq import kmeans
    except ImportError:
        raise MissingExtra.of("scipy", "scipy") from None
    drawn = torch.randperm(vectors.shape[1], generator=source, device=source.device)[:count].cpu().numpy()
    found = (kmeans(x, x[drawn], thresh=1e-6 * float(x.std()))[0] for x in vectors.cpu().numpy())
    return [torch.from_numpy(centroids).to(vectors) for centroids in found]
