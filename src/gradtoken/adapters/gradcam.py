"""The calling habit of pytorch-grad-cam: https://github.com/jacobgil/pytorch-grad-cam."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradtoken.adapters.plain import enlarged
from gradtoken.attribution import attribute
from gradtoken.errors import BadRelevance, BadTarget
from gradtoken.methods import METHODS
from gradtoken.state import first_weight
from gradtoken.targets import Target

ScoreOf = Callable[[Any], Tensor]
FACTORS = (0.9, 1.0, 1.1)  # of brightness, with aug_smooth


class GradToken:
    """`with GradToken(model) as cam: cam(input_tensor=x, targets=[ClassifierOutputTarget(281)])`.

    method: any of `METHODS`, with its options. target_layers, reshape_transform: taken for the sake of existing calls;
    neither is needed, and a warning says that they are not used.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module] | None = None,
        reshape_transform: Callable[..., Any] | None = None,
        method: str = "gradtoken",
        **options: Any,
    ) -> None:
        given = {"target_layers": target_layers, "reshape_transform": reshape_transform}
        unused = [name for name, value in given.items() if value is not None]
        if unused:
            warnings.warn(f"{method} needs no {' and no '.join(unused)}, which are not used", stacklevel=2)
        METHODS[method].bind({name: value for name, value in options.items() if name != "allow_blank"})
        self.model, self.method, self.options = model, method, options

    def __enter__(self) -> "GradToken":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing was attached to the network, and errors pass through."""

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Sequence[ScoreOf | int] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> NDArray[Any]:
        """Maps from 0 to 1, each scaled for itself after a clip at 0. (B, C, H, W) -> (B, H, W) float32

        targets: one for each picture: a callable on what the network says of it, as in
        `pytorch_grad_cam.utils.model_targets`, or a class index; None for the predicted classes.
        aug_smooth: the mean over mirrored, darker and lighter copies.
        """
        if eigen_smooth:
            raise BadTarget("eigen_smooth is the first component of a layer's activations; this method reads no layer")
        weight = first_weight(self.model)
        x = input_tensor if weight is None else input_tensor.to(weight.device)
        target = target_of(targets, len(x))
        if not aug_smooth:
            return self.scaled(x, target).cpu().numpy()
        found = [self.scaled(x * factor, target) for factor in FACTORS]
        found += [self.scaled(x.flip(3) * factor, target).flip(2) for factor in FACTORS]
        return torch.stack(found).mean(dim=0).cpu().numpy()

    def scaled(self, x: Tensor, target: Target) -> Tensor:
        """(B, H, W), 0 to 1."""
        raw = attribute(self.model, x, target, self.method, **self.options).float()
        nothing = (raw <= 0).flatten(1).all(dim=1)
        if nothing.any() and not self.options.get("allow_blank"):
            raise BadRelevance(
                f"no value of {self.method} is above zero for pictures {nothing.nonzero()[:, 0].tolist()}, and this "
                "convention clips below; gradtoken.attribute has signed maps, and allow_blank=True keeps zero ones"
            )
        relevance = enlarged(raw.clamp(min=0), x)
        low, high = relevance.amin(dim=(1, 2), keepdim=True), relevance.amax(dim=(1, 2), keepdim=True)
        return (relevance - low) / (high - low).where(high > low, 1)


def target_of(targets: Sequence[ScoreOf | int] | None, batch: int) -> Target:
    """Class indices where all targets are classes, else a callable that gives each row of the output to its target."""
    if targets is None:
        return None
    targets = list(targets) if isinstance(targets, Sequence) else [targets]
    if len(targets) != batch:
        raise BadTarget(f"expected one target for each of {batch} pictures, got {len(targets)}")
    classes = [class_of(target) for target in targets]
    if all(c is not None for c in classes):
        return torch.tensor(classes)
    if not all(map(callable, targets)):
        raise BadTarget("expected class indices, or a callable on the output for each picture; got both")

    def scores(output: Any) -> Tensor:
        rows = rows_of(output)
        found = [targets[i % batch](row) for i, row in enumerate(rows)]  # type: ignore[operator]
        if not all(isinstance(s, Tensor) and s.numel() == 1 for s in found):
            shapes = ", ".join(str(tuple(getattr(s, "shape", ()))) for s in found[:3])
            raise BadTarget(f"expected each target to return one score, got shapes {shapes}")
        return torch.stack([s.reshape(()) for s in found])

    return scores


def class_of(target: Any) -> int | None:
    """The class whose logit a target is, where it is one: then methods that read probabilities run too."""
    if isinstance(target, int) and not isinstance(target, bool):
        return target
    known = sys.modules.get("pytorch_grad_cam.utils.model_targets")
    plain = known is not None and type(target) is known.ClassifierOutputTarget
    return int(target.category) if plain else None


def rows_of(output: Any) -> Any:
    """What a network says of each picture: the rows of its tensor, or of its logits."""
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    return output if found is None else found
