"""The same explanation from other packages, beside ours: processor seconds in turn, bytes, and how far maps differ.

    pip install grad-cam captum torchcam lxt zennit transformers        # the peers, in an environment of their own
    python -m benchmarks.peers [--nets tiny base] [--batches 1 8] [--methods NAME ...]

Results go to `benchmarks/results/peers.json`; `python -m benchmarks.methods --page` writes them into `docs/costs.md`.
Random weights.
"""

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cost import network, picture
from benchmarks.meter import peak_bytes
from benchmarks.methods import NETS, seconds
from benchmarks.rollouts import transformers_network, transformers_rollout
from gradtoken import attribute
from gradtoken.models._torchvision import ensure_torchvision

RESULTS = Path("benchmarks/results/peers.json")
Explain = Callable[[Tensor], Any]
TARGET = 0
PATCHING = {"lxt"}  # changes the classes of a library, so ours is timed before


def torchvision_network(name: str) -> nn.Module:
    """A torchvision ViT of the same size, weights random but not zero at the head."""
    ensure_torchvision()
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    width, heads = {"tiny": (192, 3), "base": (768, 12)}[name]
    net = VisionTransformer(224, 16, 12, heads, hidden_dim=width, mlp_dim=4 * width)
    nn.init.normal_(net.heads[0].weight, std=0.02)
    return net.eval()


# Peers: each yields what explains a batch, and undoes what it did to the model ----------------------------------------


@contextlib.contextmanager
def grad_cam(net: nn.Module) -> Iterator[Explain]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def grid(x: Tensor) -> Tensor:
        return x[:, 1:].mT.unflatten(2, (14, 14))

    with GradCAM(model=net, target_layers=[net.blocks[-1].norm1], reshape_transform=grid) as cam:
        yield lambda x: torch.from_numpy(cam(x, targets=[ClassifierOutputTarget(TARGET)] * len(x)))


@contextlib.contextmanager
def captum(name: str, net: nn.Module, **options: Any) -> Iterator[Explain]:
    from captum import attr

    method = getattr(attr, name)(net)
    yield lambda x: method.attribute(x.requires_grad_(name != "Occlusion"), target=TARGET, **options).sum(dim=1)


@contextlib.contextmanager
def torchcam_legrad(net: nn.Module) -> Iterator[Explain]:
    from torchcam.methods import LeGrad

    with LeGrad(net, list(net.encoder.layers)[-2:]) as cam:

        def explain(x: Tensor) -> Tensor:
            scores = net(x)
            maps: list[Tensor] = cam([TARGET] * len(x), scores, normalized=False)
            return torch.stack(maps).sum(dim=0)

        yield explain


@contextlib.contextmanager
def lxt_cp_lrp(net: nn.Module) -> Iterator[Explain]:
    """Patches torchvision for the rest of the process."""
    from lxt.efficient import monkey_patch
    from lxt.efficient.models.vit_torch import cp_LRP
    from torchvision.models import vision_transformer

    monkey_patch(vision_transformer, cp_LRP)

    def explain(x: Tensor) -> Tensor:
        x = x.requires_grad_()
        (g,) = torch.autograd.grad(net(x)[:, TARGET].sum(), x)
        return (x * g).sum(dim=1).detach()

    yield explain


def occlusion(net: nn.Module) -> contextlib.AbstractContextManager[Explain]:
    return captum("Occlusion", net, sliding_window_shapes=(3, 16, 16), strides=(3, 16, 16), perturbations_per_eval=8)


PEERS: dict[str, tuple[str, str, Callable[[nn.Module], Any], Callable[[str], nn.Module], dict[str, Any]]] = {
    "gradcam_features": ("grad-cam", "GradCAM", grad_cam, lambda name: network(NETS[name], 224), {}),
    "input_x_gradient": (
        "captum", "InputXGradient", partial(captum, "InputXGradient"), lambda name: network(NETS[name], 224), {},
    ),
    "integrated_gradients": (
        "captum",
        "IntegratedGradients, 10 steps",
        partial(captum, "IntegratedGradients", n_steps=10),
        lambda name: network(NETS[name], 224),
        {"steps": 10},
    ),
    "occlusion": ("captum", "Occlusion", occlusion, lambda name: network(NETS[name], 224), {}),
    "legrad": ("torchcam", "LeGrad", torchcam_legrad, torchvision_network, {}),
    "cp_lrp": ("lxt", "CP-LRP", lxt_cp_lrp, torchvision_network, {}),
    "rollout": (
        "transformers", "its attentions, multiplied", transformers_rollout, transformers_network, {"start": 0},
    ),
}  # fmt: skip


def compare(method: str, name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Seconds of both in turn, and how our map and theirs correlate at the coarser resolution."""
    package, title, peer, build, options = PEERS[method]
    x = picture(224, batch)
    ours = partial(attribute, build(name), x, TARGET, method, allow_blank=True, **options)
    mine = ours()
    before = [seconds(ours) for _ in range(repeats)] if package in PATCHING else []
    with peer(build(name)) as explain:
        theirs = explain(x.clone())
        both = lambda: (seconds(lambda: explain(x.clone())), before.pop() if before else seconds(ours))  # noqa: E731
        pairs = [both() for _ in range(repeats)]
    return {
        "method": method,
        "package": f"{package} {importlib.metadata.version(package)}",
        "theirs": title,
        "net": name,
        "batch": batch,
        "seconds theirs": statistics.median(a for a, _ in pairs),
        "seconds ours": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "correlation": correlation(mine, theirs),
    }


def held(method: str, name: str, batch: int) -> dict[str, int]:
    """Peak bytes of each."""
    _, _, peer, build, options = PEERS[method]
    x = picture(224, batch)
    ours = partial(attribute, build(name), x, TARGET, method, allow_blank=True, **options)
    ours()  # the first call learns the layout
    found = {"bytes ours": peak_bytes(ours)}
    with peer(build(name)) as explain:
        return found | {"bytes theirs": peak_bytes(lambda: explain(x.clone()))}


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, of two maps brought to the size of the smaller."""
    size = min(tuple(a.shape[-2:]), tuple(b.shape[-2:]))
    a, b = (F.adaptive_avg_pool2d(m.detach().float(), size).flatten() for m in (a, b))
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def measure(nets: list[str], batches: list[int], methods: list[str], repeats: int) -> None:
    """Measure what is not in the file yet, and put it there."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    known = {(r["method"], r["net"], r["batch"]): r for r in results["rows"]}
    for key in itertools.product(methods, nets, batches):
        if key not in known:
            known[key] = compare(*key, repeats)
        if "bytes ours" not in known[key]:
            known[key] |= held(*key)
            results |= {"rows": [*known.values()], "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(known[key], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Other packages' explanations beside ours.")
    parser.add_argument("--nets", nargs="*", choices=NETS, default=list(NETS))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--methods", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    measure(options.nets, options.batches, options.methods, options.repeats)


if __name__ == "__main__":
    main()
