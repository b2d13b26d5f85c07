"""docs/ecosystem.md: other packages' own calls on the bundled model and pictures, and what came out.

python scripts/ecosystem.py > docs/ecosystem.md
"""

import importlib.metadata
import io
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import torch
from torch import Tensor, nn

from gradtoken.adapters.captum import TransformerAttribution
from gradtoken.adapters.gradcam import GradToken
from gradtoken.adapters.quantus import explain_func
from gradtoken.explaining import explain
from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.models.bundled import FOLDER
from gradtoken.models.load import load

ASKED = {"cat.jpg": "cat", "dog.jpg": "dog", "giraffe.jpg": "giraffe", "horse.jpg": "horse"}
HEAD = """# Other tools

What other packages' own calls gave with this package's relevance, on the bundled model and {count} bundled pictures,
asked for the class that each shows. Made by `python scripts/ecosystem.py`; the same calls are tests in
`tests/adapters/`, where these packages are installed: `pip install 'gradtoken[ecosystem]'`.

How to use them:

<!-- needs: hub -->
```python
import timm
import transformers

import gradtoken
from gradtoken.adapters.captum import TransformerAttribution    # a captum.attr.Attribution
from gradtoken.adapters.gradcam import GradToken                # with GradToken(model) as cam: cam(input_tensor=x, ...)
from gradtoken.adapters.quantus import explain_func             # explain_func_kwargs={{"method": "legrad"}}
from gradtoken.adapters.plain import saliency                   # (B, C, H, W) array in, (B, H, W) array out

gradtoken.explain("zoo.jpg", transformers.pipeline("image-classification", "google/vit-base-patch16-224"))
gradtoken.explain("zoo.jpg", timm.create_model("vit_base_patch16_224", pretrained=True))
```

`method=` takes any name of [Methods](methods.md), further keywords are its options. Captum and Quantus want a value
for each pixel, so maps of patches are enlarged (bilinear); pytorch-grad-cam clips at zero and scales each map from 0 to
1, and so does its adapter. Values are the mean over pictures. A map in which nothing is above zero is an error that
says so, unless `allow_blank=True`: tools that try random classes or weights want it.

| tool | version | what was run | result | seconds |
| --- | --- | --- | --- | --- |
"""

COMPARED = ("gradtoken", "centred_gradtoken", "legrad", "random")
Case = tuple[nn.Module, Tensor, list[int]]
Run = Callable[[Case], str]


def case() -> Case:
    """Network, pictures as it reads them, classes."""
    model = load("bundled")
    assert model.labels is not None
    from gradtoken.models.pictures import open_picture

    views = [model.for_pictures(open_picture(str(FOLDER / "pictures" / name))).pixels for name in ASKED]
    return model.net, torch.stack(views), [model.labels.find(name) for name in ASKED.values()]


# Captum ---------------------------------------------------------------------------------------------------------------


def captum_methods(of: Case) -> str:
    net, x, classes = of
    names = ("gradtoken", "gaze", "rollout", "legrad", "attn_lrp", "input_x_gradient")
    found = [TransformerAttribution(net, name).attribute(x[:1], target=classes[0]) for name in names]
    return f"{sum(f.shape == x[:1].shape for f in found)} of {len(names)} methods: attributions shaped as the input"


def captum_tunnel(of: Case) -> str:
    from captum.attr import NoiseTunnel

    net, x, classes = of
    plain = TransformerAttribution(net)
    torch.manual_seed(0)
    smooth = NoiseTunnel(plain).attribute(x, nt_type="smoothgrad", nt_samples=5, stdevs=0.1, target=classes)
    alike = torch.cosine_similarity(smooth.flatten(1), plain.attribute(x, target=classes).flatten(1))
    return f"cosine to the map without noise {alike.mean():.3f}"


def captum_sensitivity(of: Case) -> str:
    from captum.metrics import sensitivity_max

    net, x, classes = of
    torch.manual_seed(0)
    found = sensitivity_max(TransformerAttribution(net).attribute, x, n_perturb_samples=5, target=classes)
    return f"{found.mean():.3f} (radius 0.02)"


def captum_infidelity(of: Case) -> str:
    from captum.metrics import infidelity

    net, x, classes = of
    attributions = TransformerAttribution(net).attribute(x, target=classes)

    def squares(inputs: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.rand(len(inputs), 1, 14, 14).lt(0.2).repeat_interleave(16, 2).repeat_interleave(16, 3) * inputs
        return z, inputs - z

    def of_map(R: Tensor) -> Tensor:
        torch.manual_seed(0)
        return infidelity(net, squares, x, R, target=torch.tensor(classes), n_perturb_samples=20, normalize=True)

    shuffled = attributions.flatten(2)[..., torch.randperm(224 * 224)].reshape(x.shape)
    return f"{of_map(attributions).mean():.2f}; of shuffled pixels {of_map(shuffled).mean():.2f} (lower is better)"


def captum_drawing(of: Case) -> str:
    from captum.attr import visualization

    net, x, classes = of
    found = TransformerAttribution(net).attribute(x[:1], target=classes[0])[0]
    picture = (x[0] - x[0].min()) / (x[0].max() - x[0].min())
    _, axes = visualization.visualize_image_attr(
        found.permute(1, 2, 0).numpy(), picture.permute(1, 2, 0).numpy(), "blended_heat_map", use_pyplot=False
    )
    return f"a figure with {len(axes.images)} layers"


# Quantus --------------------------------------------------------------------------------------------------------------


def quantus_metric(name: str, ask: dict[str, object] | None = None, **options: object) -> Run:
    def run(of: Case) -> str:
        import quantus

        net, x, classes = of
        np.random.seed(0)  # which Quantus draws from
        metric = getattr(quantus, name)(disable_warnings=True, **options)
        found = metric(
            model=net,
            x_batch=x.numpy(),
            y_batch=np.array(classes),
            a_batch=None,
            explain_func=explain_func,
            explain_func_kwargs={"allow_blank": True, **(ask or {})},
            device="cpu",
        )
        return f"{np.mean(np.asarray(found, dtype=float)):.3f}"

    return run


# pytorch-grad-cam -----------------------------------------------------------------------------------------------------


def cam_call(of: Case) -> str:
    from pytorch_grad_cam.utils.image import show_cam_on_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, x, classes = of
    with GradToken(model=net) as cam:
        found = cam(input_tensor=x, targets=[ClassifierOutputTarget(c) for c in classes])
    picture = ((x[0] - x[0].min()) / (x[0].max() - x[0].min())).permute(1, 2, 0).numpy()
    drawn = show_cam_on_image(picture, found[0], use_rgb=True)
    return f"maps {found.shape} from {found.min():g} to {found.max():g}; show_cam_on_image gives {drawn.shape}"


def cam_targets(of: Case) -> str:
    from pytorch_grad_cam.utils import model_targets as known

    net, x, _ = of
    kinds = {
        "softmax": known.ClassifierOutputSoftmaxTarget(3),
        "ReST": known.ClassifierOutputReST(3),
        "finer": known.FinerWeightedTarget(3, [4, 5], 0.5),
    }
    logit = GradToken(net)(x[:1], [known.ClassifierOutputTarget(3)]).ravel()
    found = {name: GradToken(net)(x[:1], [target]).ravel() for name, target in kinds.items()}
    return "correlation with the logit's map: " + ", ".join(
        f"{name} {np.corrcoef(logit, m)[0, 1]:.2f}" for name, m in found.items()
    )


def cam_metric(of: Case) -> str:
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    net, x, classes = of
    score = [ClassifierOutputSoftmaxTarget(c) for c in classes]
    maps = {name: GradToken(net, method=name)(x, classes) for name in COMPARED}
    road = {name: ROADCombined(percentiles=[25, 50, 75])(x, m, score, net).mean() for name, m in maps.items()}
    return ", ".join(f"{name} {value:.3f}" for name, value in road.items()) + " (higher is better)"


# Models ---------------------------------------------------------------------------------------------------------------


def pipeline_of_pictures(_: Case) -> str:
    import transformers

    config = transformers.ViTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96)
    torch.manual_seed(0)
    net = transformers.ViTForImageClassification(config)
    pipe = transformers.pipeline("image-classification", model=net, image_processor=transformers.ViTImageProcessor())
    picture = str(FOLDER / "pictures" / "cat.jpg")
    one = explain(picture, pipe, method="legrad")
    scores = {item["label"]: item["score"] for item in pipe(picture)}
    gap = abs(one.probability - max(scores.values()))
    return f"random weights; probability of the prediction as the pipeline's to {max(gap, 1e-6):.0e}"


def timm_model(_: Case) -> str:
    import timm

    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=11)
    one = explain(str(FOLDER / "pictures" / "cat.jpg"), net, method="legrad")
    return f"random weights; a map of {one.relevance.shape[0]} x {one.relevance.shape[1]} patches"


SUBSETS = {"nr_runs": 20, "subset_size": 2000}
RUNS: list[tuple[str, str, Run]] = [
    ("captum", "`TransformerAttribution(net, method).attribute`", captum_methods),
    ("captum", "`NoiseTunnel`, smoothgrad, 5 draws", captum_tunnel),
    ("captum", "`metrics.sensitivity_max`", captum_sensitivity),
    ("captum", "`metrics.infidelity`, fifths of the patches to grey, normalised", captum_infidelity),
    ("captum", "`visualization.visualize_image_attr`", captum_drawing),
    ("quantus", "`MaxSensitivity`", quantus_metric("MaxSensitivity", nr_samples=4, lower_bound=0.1)),
    ("quantus", "`Sparseness`", quantus_metric("Sparseness")),
    ("quantus", "`RandomLogit`, GradToken", quantus_metric("RandomLogit", num_classes=11, seed=1)),
    ("quantus", "`RandomLogit`, rollout", quantus_metric("RandomLogit", {"method": "rollout"}, num_classes=11, seed=1)),
    ("quantus", "`FaithfulnessCorrelation`, GradToken", quantus_metric("FaithfulnessCorrelation", **SUBSETS)),
    (
        "quantus",
        "`FaithfulnessCorrelation`, LeGrad",
        quantus_metric("FaithfulnessCorrelation", {"method": "legrad"}, **SUBSETS),
    ),
    ("quantus", "`PixelFlipping`", quantus_metric("PixelFlipping", features_in_step=3584, return_auc_per_sample=True)),
    ("grad-cam", "`with GradToken(net) as cam: cam(input_tensor=, targets=)`", cam_call),
    ("grad-cam", "its other target classes", cam_targets),
    ("grad-cam", "`ROADCombined`, which asks for many more passes", cam_metric),
    ("transformers", '`explain(picture, pipeline("image-classification"))`', pipeline_of_pictures),
    ("timm", "`explain(picture, timm.create_model(...))`", timm_model),
]


def rows() -> Iterator[str]:
    """A row for each run; what a package raises is its result."""
    of = case()
    for package, what, run in RUNS:
        began = time.perf_counter()
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                result = run(of)
        except Exception as error:  # whatever the package raises
            result = f"does not run: {type(error).__name__}: {str(error)[:100]}".replace("\n", " ")
        seconds = time.perf_counter() - began
        yield f"| {package} | {importlib.metadata.version(package)} | {what} | {result} | {seconds:.1f} |"


if __name__ == "__main__":
    ensure_torchvision()
    warnings.simplefilter("ignore")
    print(HEAD.format(count=len(ASKED)), end="")
    for row in rows():
        print(row, flush=True)
