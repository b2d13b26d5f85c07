"""Commands of the shell on protocols, data and benchmarks; what is heavy is imported inside them."""

from gradtoken.commands import runs as runs  # adds its commands to those of benchmark
from gradtoken.commands.benchmark import app as benchmark
from gradtoken.commands.lists import app as lists

__all__ = ["benchmark", "lists"]
