"""Layer-wise relevance propagation for any model: rules for operations, in presets."""

from gradtoken.lrp.presets import ABS_LRP, ATTN_LRP, CP_LRP, LIBRA, LRP_CONSERVATIVE, LRP_PUBLISHED
from gradtoken.lrp.propagate import Rules

__all__ = ["ABS_LRP", "ATTN_LRP", "CP_LRP", "LIBRA", "LRP_CONSERVATIVE", "LRP_PUBLISHED", "Rules"]
