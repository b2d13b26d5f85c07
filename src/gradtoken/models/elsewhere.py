"""Models whose scores are none of classes, which the full call explains."""

from collections.abc import Sequence

from gradtoken.errors import BadModel

ELSEWHERE = {  # by what architectures end in: what is explained by gradtoken.attribute alone
    "ForObjectDetection": "scores each class in each box: target=lambda out: out.logits[..., c].amax(dim=1)",
    "ForCausalLM": "writes what it has read: target=lambda out: out.logits[:, -1, token]",
    "ForConditionalGeneration": "writes what it has read: target=lambda out: out.logits[:, -1, token]",
}


def advise(name: str, heads: Sequence[str]) -> None:
    """Say how models whose scores are none of classes are explained."""
    for head in heads:
        for end, way in ELSEWHERE.items():
            if head.endswith(end):
                raise BadModel(
                    f"{name} is a {head}, which {way}; load it with transformers, and give gradtoken.attribute the "
                    "network, its inputs and this target; see docs/generators.md"
                )
