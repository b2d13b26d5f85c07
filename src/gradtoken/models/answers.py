"""Models that read a picture among the words of a text: LLaVA (https://arxiv.org/abs/2304.08485), ViLT."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gradtoken.errors import BadTarget, NoGrid
from gradtoken.models.hub import JOINT
from gradtoken.models.joint import WithPatches, patches_in_order
from gradtoken.models.language import NextToken
from gradtoken.models.model import Model
from gradtoken.record import Recorder
from gradtoken.state import untouched
from gradtoken.tokens import disorder, find_grid, first_patch, marked_pictures

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture among the tokens of a prompt. box: as of an explanation. first: how many tokens precede its patches."""

    picture: Image.Image
    box: Box
    rows: int
    columns: int
    first: int
    preprocessing: dict[str, Any]

    @property
    def patches(self) -> slice:
        """Which of the tokens that a picture becomes are its patches."""
        return slice(self.first, self.first + self.rows * self.columns)


def is_joint(net: nn.Module) -> bool:
    """Whether it is one tower for pictures and texts."""
    return type(net).__name__ in JOINT


class Answering(nn.Module):
    """A network that is called with a picture and a text; alone it says nothing."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        config: Any = net.config
        self.num_classes: int = config.num_labels if is_joint(net) else config.get_text_config().vocab_size

    def forward(self, *_: Any, **__: Any) -> None:
        raise BadTarget(
            f"{type(self.net).__name__} reads a text with each picture; give the text too: explain(..., prompt=), "
            "--prompt"
        )

    def tokens(self, pixels: Tensor) -> Tensor:
        """What the language model is given of pictures. (B, C, H, W) -> (B, n, width)"""
        net: Any = self.net
        found = net.get_image_features(pixel_values=pixels)
        found = getattr(found, "pooler_output", found)
        return found if isinstance(found, Tensor) else torch.stack(list(found))

    def beside(self, tokens: Tensor, prompts: Any) -> nn.Module:
        """The network that is called with texts alone, this picture in each."""
        return WithPicture(self.net, tokens, prompts.number)


class Joint(Answering):
    """One tower for both, which classifies."""

    def tokens(self, pixels: Tensor) -> Tensor:
        """What the tower is given of pictures. (B, C, H, W) -> (B, 1 + n, width)"""
        return patches_in_order(self.net, pixels)

    def beside(self, tokens: Tensor, prompts: Any) -> nn.Module:  # noqa: ARG002
        """The network that is called with texts alone, beside this picture."""
        return WithPatches(self.net, tokens)


class WithPicture(NextToken):
    """As NextToken, with a picture's tokens where `number` stands. They are constants, as a word's embedding is.

    tokens: (1, n, width)
    """

    def __init__(self, net: nn.Module, tokens: Tensor, number: int) -> None:
        super().__init__(net)
        self.register_buffer("tokens", tokens)
        self.number = number

    def words(self, input_ids: Tensor) -> dict[str, Tensor]:
        """The embeddings of all tokens. (B, N) -> (B, N, width)"""
        net: Any = self.net
        x, pictured = net.get_input_embeddings()(input_ids), input_ids == self.number
        own = self.get_buffer("tokens").to(x)[0][(pictured.cumsum(dim=1) - 1).clamp(min=0)]
        return {"inputs_embeds": torch.where(pictured[..., None], own, x)}


def about(model: Model, image: Image.Image) -> tuple[Model, Seen]:
    """The model of texts with this picture, and how the picture lies among its tokens."""
    net: Any = model.net
    view, weight = model.for_pictures(image), next(net.parameters())
    pixels = view.pixels[None].to(weight.device, weight.dtype)
    with untouched(net, [pixels]), torch.no_grad():
        with Recorder(limit=0) as record:
            tokens = net.tokens(pixels)
        first, (rows, columns) = placed(net, pixels, tokens, record.grids)
    reads = model.for_prompts.taking(tokens.shape[1])
    seen = Seen(image, view.box, rows, columns, first, model.preprocess.describe())
    return replace(model, net=net.beside(tokens, reads).eval(), preprocess=reads, prompts=None), seen


def placed(net: Answering, pixels: Tensor, tokens: Tensor, sizes: list[tuple[int, int]]) -> tuple[int, tuple[int, int]]:
    """Number of the first patch token and the grid of the patches, found by changing patches of the picture."""
    grid = find_grid(tokens.shape[1], sizes, (pixels.shape[-2], pixels.shape[-1]))
    found = [net.tokens(x) for x in marked_pictures(pixels[0], grid, 1)]
    change = torch.cat([(x - found[0]).float().square().sum(dim=2) for x in found[1:]])
    fault = disorder(change, grid, mixed=True)
    if fault is not None:
        raise NoGrid(fault)
    return first_patch(change, grid), grid
