"""Names of operations in groups that share a rule: a function and a method of one name are two operations."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.operations import Op as Op
from gradtoken.operations import named as named

LINEAR: tuple[Op, ...] = (F.linear,)
CONVOLUTIONS: tuple[Op, ...] = (F.conv1d, F.conv2d, F.conv3d)
MATMUL = named("matmul", "bmm", "mm", "__matmul__", "__rmatmul__")
ADD = named("add", "add_", "__add__", "__radd__", "__iadd__")
SUB = named("sub", "sub_", "subtract", "__sub__", "__isub__")
RSUB = named("rsub", "__rsub__")
MUL = named("mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__")
DIV = named("div", "div_", "divide", "true_divide", "__truediv__", "__itruediv__")
SQUARE = named("square")
POW = (*named("pow", "__pow__"), *SQUARE)
SOFTMAX = named("softmax")
LAYER_NORM = named("layer_norm")
RMS_NORM = named("rms_norm")
BATCH_NORM: tuple[Op, ...] = (F.batch_norm,)
NORMALIZE: tuple[Op, ...] = (F.normalize,)
DROPOUT = named("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_dropout")
ATTENTION: tuple[Op, ...] = (F.scaled_dot_product_attention,)
GETITEM: tuple[Op, ...] = (Tensor.__getitem__,)

POOLINGS = named("interpolate", "mean", "sum", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
ELEMENTWISE = named(
    *("gelu", "silu", "relu", "relu_", "relu6", "leaky_relu", "elu", "celu", "selu", "mish", "tanh", "sigmoid"),
    *("hardtanh", "hardswish", "hardsigmoid", "logsigmoid", "softplus"),
)
NORMALISERS = (
    *named("rsqrt", "sqrt", "var", "std", "norm", "reciprocal", "__rtruediv__"),
    *(torch.linalg.norm, torch.linalg.vector_norm),
)
NEGATION = named("neg", "negative", "__neg__")
STRUCTURAL = (
    *named("reshape", "view", "view_as", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze", "contiguous"),
    *named("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t", "flip", "roll", "clone"),
    *named("expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile", "pad", "unfold", "fold"),
    *named("chunk", "split", "tensor_split", "unbind", "cat", "concat", "concatenate", "stack", "hstack", "vstack"),
    *named("narrow", "select", "index_select", "gather", "take_along_dim", "masked_fill", "where", "tril", "triu"),
    *named("to", "float", "double", "half", "bfloat16", "type", "type_as", "cpu", "cuda", "pixel_unshuffle"),
    *(Tensor.T.__get__, Tensor.mT.__get__, Tensor.__setitem__, Tensor.requires_grad_),  # type: ignore[attr-defined]
)
PRODUCTS = frozenset((*MATMUL, *MUL, *DIV, *ATTENTION))  # where it matters how many operands carry relevance


def signs_of(op: Op, alpha: float = 1) -> tuple[float, float]:
    """The factors of the two operands in a sum: a + alpha b, a - alpha b, or b - alpha a."""
    return (-alpha, 1) if op in RSUB else (1, -alpha) if op in SUB else (1, alpha)
