"""GradCAM on feature channels: Selvaraju et al., ICCV 2017, on what the last block's attention reads."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import over_content, visible_content


@METHODS.add(
    paper="https://arxiv.org/abs/1610.02391",
    formula="R = relu(sum_c w_c X_c), w_c = mean over patches of dy/dX_c, X what the last attention reads",
    cost="1 F + K B",
    needs=("plain", "stream"),
    differs="the paper is about convolutions; the layer is the one that the package pytorch-grad-cam takes for ViT",
)
def gradcam_features(probe: Probe) -> Tensor:
    """Channels of the last block's features X, weighted by their mean gradient: R = relu(sum_c w_c X_c).

    Returns (B, K, S). Unit: logit; >= 0; not conserved.
    """
    run, block = probe.plain, over_content(probe)[-1]
    X, dX = run.value("features", block).mT, run.gradient("features", block).mT  # (B, C, N), (B, K, C, N)
    X, dX = (probe.layout.content(x, x.shape[-1]) for x in (X, dX))
    seen = visible_content(probe).to(X.dtype)[:, None]
    w = (dX * seen[:, None]).sum(dim=-1) / seen.sum(dim=-1, keepdim=True)
    return (w @ X).clamp(min=0) * seen
