"""Weights from a file into a network: no code is run, nothing is left out unnoticed."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gradtoken.errors import BadModel

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
WRAPPERS = (
    "model_ema",
    "state_dict_ema",
    "state_dict",
    "model",
    "model_state_dict",
)  # keys that training code wraps in
PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # from torch.compile and distributed training, in either order

FAULTS = (  # what libraries raise on damaged weights and configurations
    *(SafetensorError, pickle.PickleError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or from a .pth, .pt or .bin file that holds tensors only."""
    if path.suffix not in SUFFIXES:
        raise BadModel(f"weights {str(path)!r}: expected a file ending in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise BadModel(f"weights {str(path)!r}: no such file; check the name and the folder ({Path.cwd()})")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadModel(
            f"weights {str(path)!r} are damaged, or hold Python objects that could run code, which is refused; "
            "save the state_dict alone, best with safetensors.torch.save_file"
        ) from error
    except FAULTS as error:
        raise BadModel(f"weights {str(path)!r} are damaged or cut short: {brief(error)}; get the file again") from error
    return unwrap(content, path)


def unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The mapping name -> tensor inside what a training script saved."""
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        held = f"the keys {list(content)[:5]}" if isinstance(content, Mapping) else type(content).__name__
        raise BadModel(f"weights {str(path)!r}: expected tensors by name, or a dict with them, got {held}")
    state = dict(content)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def build_for(state: Mapping[str, Tensor], classes: int, build: Callable[[int], nn.Module]) -> tuple[nn.Module, int]:
    """The network that `build(classes)` gives, and its classes: as many as the head in `state` has."""
    net = build(classes)
    sizes = {
        len(state[name])
        for name, own in net.state_dict().items()
        if own.ndim and len(own) == classes and name in state and state[name].shape[1:] == own.shape[1:]
        if state[name].ndim == own.ndim
    }
    count = sizes.pop() if len(sizes) == 1 else classes
    return (net, classes) if count == classes else (build(count), count)


def load_weights(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy every tensor; names and shapes must match exactly."""
    own = net.state_dict()
    mismatched = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": mismatched,
    }
    if any(faults.values()):
        found = "; ".join(f"{len(names)} {fault}: {first(names)}" for fault, names in faults.items() if names)
        raise BadModel(
            f"weights {str(path)!r} do not fit {type(net).__name__}: {found}; "
            "name the architecture that they were saved from"
        )
    net.load_state_dict(dict(state))


def brief(error: BaseException) -> str:
    """A library's message in one line of readable length."""
    return " ".join(str(error).split())[:500]


def first(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def check_finite(net: nn.Module, name: str) -> None:
    """Refuse weights that hold nan or inf."""
    for key, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise BadModel(f"{name}: the weight {key} holds {count} values that are nan or inf; get the weights again")
