"""One tower for a picture and a text: all their tokens in one encoder (ViLT, https://arxiv.org/abs/2102.03334)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from gradtoken.errors import BadModel, BadTarget
from gradtoken.models.preprocess import Preprocess, View
from gradtoken.models.recipes import from_transformers
from gradtoken.models.text import Encode, Windows

LONGEST = 1333 / 800  # of the longer side, by the shorter
TOKENS = ("input_ids", "token_type_ids", "attention_mask")


@dataclass(frozen=True)
class Divided(Preprocess):
    """The shorter side as in `size`, the longer as the picture's shape says, both cut to multiples of `divisor`."""

    divisor: int = 32

    def __call__(self, image: Image.Image) -> View:
        """The tensor of a picture, all of it."""
        own = {field.name: getattr(self, field.name) for field in fields(Preprocess)}
        return Preprocess(**own | {"size": self.sides(image.height, image.width), "resize_to": None})(image)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that the network is given."""
        shortest = self.size[0]
        scale = shortest / min(height, width)
        rows, columns = scale * height, scale * width
        shrunk = min(1.0, int(LONGEST * shortest) / max(rows, columns))
        cut = [int(side * shrunk + 0.5) // self.divisor * self.divisor for side in (rows, columns)]
        return max(self.divisor, cut[0]), max(self.divisor, cut[1])


def divided(config: Mapping[str, Any]) -> Divided:
    """From a ViLT image processor's `to_dict()`."""
    size, rest = config["size"]["shortest_edge"], {"size_divisor", "do_pad", "size"}
    plain = {name: value for name, value in config.items() if name not in rest}
    plain |= {"size": {"height": size, "width": size}, "image_processor_type": "ViTImageProcessor"}
    found = from_transformers(plain)
    return Divided(
        **{field.name: getattr(found, field.name) for field in fields(found)}, divisor=config["size_divisor"]
    )


@dataclass(frozen=True)
class Beside(Encode):
    """Tokens of a text, behind which stand the `count` tokens of a picture."""

    count: int = 0
    pads: ClassVar[bool] = False

    def marked(self, text: str) -> str:
        """The text: the picture has no place in it."""
        return text

    def taking(self, count: int) -> "Beside":
        """With a picture of so many tokens."""
        return replace(self, count=count)

    def windows(self, text: str, overlap: int | None = None) -> Windows:
        """The first part of the text, then the picture."""
        if overlap is not None:
            raise BadTarget("windows= reads a text in parts, and this one is read beside a picture; leave it out")
        found = super().windows(text)
        places = tuple(range(len(found.tokens), len(found.tokens) + self.count))
        tokens = (*found.tokens, *((None, "patch") for _ in places))
        return replace(found, tokens=tokens, numbers=((*found.numbers[0], *places),), pictured=places)


class WithPatches(nn.Module):
    """A classifier of texts beside one picture. tokens: (1, n, width), constants as a word's embedding is."""

    def __init__(self, net: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("tokens", tokens)

    def forward(self, input_ids: Tensor, **more: Tensor) -> Any:
        """What the network says of these texts. (B, N)"""
        tokens = self.get_buffer("tokens").expand(len(input_ids), -1, -1)
        seen = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        return self.net(input_ids=input_ids, **more, image_embeds=tokens, pixel_mask=seen)


def patches_in_order(net: Any, pixels: Tensor) -> Tensor:
    """The class token and the patches that ViLT draws in another order in each pass, row by row. (B, 1 + n, width)"""
    mask = torch.ones_like(pixels[:, 0], dtype=torch.long)
    x, _, (places, (rows, columns)) = net.vilt.embeddings.visual_embed(pixels, mask, net.config.max_image_length)
    if places.shape[1] != rows * columns:
        raise BadModel(
            f"the network draws {places.shape[1]} of {rows * columns} patches at random (max_image_length="
            f"{net.config.max_image_length} in config.json), others in each pass; set it to -1"
        )
    order = (places[..., 0] * columns + places[..., 1]).argsort(dim=1)
    return torch.cat([x[:, :1], x[:, 1:].take_along_dim(order[..., None], dim=1)], dim=1)
