"""pytorch-grad-cam's own targets, scaling and pictures, around this package's relevance."""

import itertools

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.adapters.gradcam import GradToken
from gradtoken.errors import BadRelevance, BadTarget, UnknownName
from tests import zoo


@pytest.fixture
def package():
    return pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed", exc_type=ImportError)


@pytest.fixture
def targets(package):
    from pytorch_grad_cam.utils import model_targets

    return model_targets


def theirs(package, net, **options):
    """Their class around our raw map in place of a layer's activations: their clip, scale and enlargement."""

    class Cam(package.base_cam.BaseCAM):
        def get_cam_image(self, input_tensor, target_layer, targets, *rest):
            classes = torch.tensor([target.category for target in targets])
            return gradtoken.attribute(self.model, input_tensor, classes, **options).numpy()

    return Cam(net, [net.blocks[-1].norm1], uses_gradients=False)


@pytest.mark.parametrize("smooth", [False, True])
def test_values_are_scaled_and_smoothed_as_theirs(package, targets, net, pictures, smooth):
    asked = [targets.ClassifierOutputTarget(1), targets.ClassifierOutputTarget(3)]
    with GradToken(model=net, method="grad_eclip") as cam, theirs(package, net, method="grad_eclip") as reference:
        found = cam(input_tensor=pictures, targets=asked, aug_smooth=smooth)
        expected = reference(input_tensor=pictures, targets=asked, aug_smooth=smooth)
    assert found.shape == (2, 16, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if not smooth:
        assert found.min() == 0
        assert found.max() == 1


def test_the_predicted_classes_are_the_default(package, net, pictures):
    found = GradToken(net, method="grad_eclip")(pictures)
    expected = theirs(package, net, method="grad_eclip")(pictures, None)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_their_targets_on_a_row_of_the_output(targets, net, pictures):
    cam = GradToken(net, method="grad_eclip")
    soft = [targets.ClassifierOutputSoftmaxTarget(1)] * 2
    rest = [targets.ClassifierOutputReST(1)] * 2
    finer = [targets.FinerWeightedTarget(1, [2, 3], 0.5)] * 2
    maps = [cam(pictures, asked) for asked in ([1, 1], soft, rest, finer)]
    own = gradtoken.attribute(net, pictures, lambda y: y.softmax(dim=1)[:, 1], "grad_eclip")
    patches = torch.nn.functional.interpolate(own[:, None], (16, 16), mode="bilinear")[:, 0]
    np.testing.assert_allclose(maps[1], scaled(patches), atol=1e-5)
    for a, b in itertools.pairwise(maps):
        assert np.abs(a - b).max() > 0.01
    binary = [targets.BinaryClassifierOutputTarget(1), targets.BinaryClassifierOutputTarget(0)]
    one = zoo.timm_model(num_classes=1)
    both = GradToken(one, method="input_x_gradient")(pictures[[0, 0]], binary)
    signed = gradtoken.attribute(one, pictures[:1], lambda y: y[:, 0], "input_x_gradient")[0]
    assert both[0].argmax() == int(signed.argmax())
    assert both[1].argmax() == int(signed.argmin())


def scaled(maps):
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return ((maps - low) / (high - low)).numpy()


@pytest.mark.parametrize("method", ["rollout", "legrad", "occlusion", "transattrib", "tis", "integrated_gradients"])
def test_methods_by_name_with_targets_that_are_no_classes(targets, net, pictures, method):
    if method == "tis":  # which reads probabilities
        found = GradToken(net, method=method)(pictures, [targets.ClassifierOutputTarget(2)] * 2)
    else:
        found = GradToken(net, method=method)(pictures, [lambda y: y[2] - y[0], lambda y: y[1] - y[0]])
    assert found.shape == (2, 16, 16)
    assert 0 <= found.min() <= found.max() <= 1


def test_networks_that_return_objects(pictures):
    net = zoo.transformers_vit()
    cam = GradToken(net, method="grad_eclip")
    np.testing.assert_allclose(cam(pictures, [lambda row: row[1]] * 2), cam(pictures, [1, 1]), atol=1e-5)


def test_their_picture_is_drawn(package, net, pictures):
    from pytorch_grad_cam.utils.image import show_cam_on_image

    rgb = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    drawn = show_cam_on_image(rgb, GradToken(net)(pictures[:1])[0], use_rgb=True)
    assert drawn.shape == (16, 16, 3)
    assert drawn.dtype == np.uint8


def test_arguments_of_old_calls_are_named_as_unused(net):
    with pytest.warns(UserWarning, match="needs no target_layers and no reshape_transform, which are not used"):
        GradToken(model=net, target_layers=[net.blocks[-1].norm1], reshape_transform=lambda x: x)


def test_refusals(net, pictures):
    cam = GradToken(net)
    with pytest.raises(BadTarget, match="one target for each of 2 pictures, got 1"):  # where theirs drops a picture
        cam(pictures, [1])
    with pytest.raises(BadTarget, match="each target to return one score"):
        cam(pictures, [lambda row: row] * 2)
    with pytest.raises(BadTarget, match="got both"):
        cam(pictures, [1, lambda row: row[1]])
    with pytest.raises(BadTarget, match="reads no layer"):
        cam(pictures, [1, 1], eigen_smooth=True)
    with pytest.raises(UnknownName, match="did you mean 'gradtoken'"):
        GradToken(net, method="gradtokn")
    with pytest.raises(BadTarget, match="from 0 to 4"):
        cam(pictures, [1, 9])


def test_errors_leave_the_block_and_the_network_as_it_was(net, pictures):
    net.train()
    with pytest.raises(IndexError, match="out of bounds"), GradToken(net) as cam:
        cam(pictures, [lambda row: row[99]] * 2)  # which theirs prints, and goes on
    assert net.training
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())


def test_maps_below_zero_are_blank_only_on_request(net, pictures):
    signed = gradtoken.attribute(net, pictures, [[0, 1, 2, 3, 4]] * 2, heads="mean")
    below = [int(c) for c in (signed <= 0).flatten(2).all(dim=2)[0].nonzero()[:, 0]]
    assert below, "no class of this model has a map below zero"
    blank = GradToken(net, heads="mean", allow_blank=True)(pictures[:1], below[:1])
    np.testing.assert_array_equal(blank, 0)
    with pytest.raises(BadRelevance, match=r"no value of gradtoken is above zero for pictures \[0\]"):
        GradToken(net, heads="mean")(pictures[:1], below[:1])
