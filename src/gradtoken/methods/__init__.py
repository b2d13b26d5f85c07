"""Every method, by name. A method is a function from a probe to relevance (B, K, S) of content tokens."""

from gradtoken.registry import Registry

METHODS = Registry("method")

from gradtoken.methods import gradtoken, raw_attention  # noqa: E402

__all__ = ["METHODS", "gradtoken", "raw_attention"]
