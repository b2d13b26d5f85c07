"""Data sets with a label for each pixel."""

import numpy as np
import pytest

from gradtoken.data import open_data
from gradtoken.data.sample import VOID, Boxes
from gradtoken.errors import BadData, BadSample
from tests.data import make

PICTURES = [np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10, np.full((4, 2, 3), 7, dtype=np.uint8)]
MASKS = [np.array([[0, 1, 1], [0, 0, 1]], dtype=np.uint8), np.ones((4, 2), dtype=np.uint8)]


@pytest.mark.parametrize("named", [True, False], ids=["folder", "file"])
def test_imagenet_segmentation(tmp_path, named):
    file = make.imagenet_segmentation(tmp_path / "gtsegs_ijcv.mat", PICTURES, MASKS)
    data = open_data(tmp_path if named else file)
    assert (data.name, data.classes, list(data.ids)) == ("imagenet-segmentation", (), ["0", "1"])
    for sample, picture, mask in zip(data, PICTURES, MASKS, strict=True):
        assert np.array_equal(np.asarray(sample.input), picture)
        assert np.array_equal(sample.truth.values, mask)
        assert sample.truth.values.dtype == np.int16
        assert sample.labels == ()


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (
            np.zeros((2, 2), np.uint8),
            r"the mask has the shape \(height, width\) = \(2, 2\), that of its picture is \(2, 3\)",
        ),
        (np.full((2, 3), 2, np.uint8), "expected a mask .* got uint8"),
        (np.zeros((2, 3), np.float32), "expected a mask .* got float32"),
        (np.zeros((2, 3, 1), np.uint8), "expected a mask"),
        (np.zeros((0, 3), np.uint8), "expected a mask"),
    ],
)
def test_broken_masks_of_imagenet_segmentation(tmp_path, mask, reason):
    make.imagenet_segmentation(tmp_path / "gtsegs_ijcv.mat", PICTURES[:1], [mask])
    with pytest.raises(BadSample, match=f"0: {reason}"):
        open_data(tmp_path)[0]


def test_broken_references(tmp_path):
    h5py = pytest.importorskip("h5py")
    file = make.imagenet_segmentation(tmp_path / "gtsegs_ijcv.mat", PICTURES, MASKS)
    with h5py.File(file, "r+") as opened:
        opened["#refs#/cell0"][0, 0] = h5py.Reference()
        opened["value/img"][1, 0] = h5py.Reference()
    data = open_data(tmp_path)
    for number in (0, 1):
        with pytest.raises(BadSample, match=f"{number}: cannot be read from"):
            data[number]


def test_files_that_are_not_imagenet_segmentation(tmp_path):
    file = tmp_path / "gtsegs_ijcv.mat"
    make.text(file, "MATLAB 5.0")
    with pytest.raises(BadData, match="expected HDF5 with /value/img"):
        open_data(file)
    make.imagenet_segmentation(file, PICTURES, MASKS[:1])
    with pytest.raises(BadData, match="2 pictures and 1 masks"):
        open_data(file)
    make.imagenet_segmentation(file, [], [])
    with pytest.raises(BadData, match="is empty"):
        open_data(file)
    with pytest.raises(BadData, match=r"there is no .*gtsegs_ijcv\.mat"):
        open_data(make.text(tmp_path / "more" / "a.txt", "").parent, "imagenet-segmentation")


def test_imagenet_s(tmp_path):
    data = open_data(make.imagenet_s(tmp_path))
    assert data.name == "imagenet-s/3 validation"
    assert data.classes == ("n01443537", "n01491361", "n01531178")
    assert data.groups == {0: (1,), 1: (3,), 2: (11,)}
    first, second = data
    assert first.truth.values.tolist() == [[0, 1], [1, VOID]]
    assert second.truth.values.tolist() == [[3, 3], [1, 0]]
    assert (first.labels, second.labels) == ((0,), (2, 0)), "that of the folder first"


def test_merged_classes_of_imagenet_s():
    from gradtoken.data.imagenet_s import MERGED, groups
    from gradtoken.data.synsets import indices

    known = indices()
    merged = groups(sorted(set(known) - set(MERGED.values()))[:914] + list(MERGED))
    assert [merged[914 + i] for i in range(5)] == [(known[a], known[b]) for a, b in MERGED.items()]


def test_imagenet_s_needs_all_classes(tmp_path):
    (make.imagenet_s(tmp_path) / "ImageNetS_categories_im50.txt").unlink()
    with pytest.raises(BadData, match="has 2 classes; expected 50, 300 or 919"):
        open_data(tmp_path)
    known = make.text(tmp_path / "ImageNetS_categories_im50.txt", "n01531178\n")
    with pytest.raises(BadData, match=r"'n01443537' .* is not among the 1 classes"):
        open_data(known.parent)
    with pytest.raises(BadData, match=r"there is no folder .*train-semi"):
        open_data(tmp_path, split="train-semi")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "there is no mask"),
        (lambda path: make.label_image(path, [[0, 1], [1, 1]]), "expected a mask in three channels"),
        (lambda path: make.picture(path, 2, 2, (4, 0, 0)), r"holds 4, which means nothing here; expected \[0, 1, 2, 3"),
        (lambda path: make.picture(path, 3, 2, (1, 0, 0)), "the mask has the shape"),
        (lambda path: make.text(path, "?"), "is damaged or no PNG"),
    ],
)
def test_broken_masks_of_imagenet_s(tmp_path, spoil, reason):
    spoil(make.imagenet_s(tmp_path) / "validation-segmentation" / "n01443537" / "a.png")
    with pytest.raises(BadSample, match=f"n01443537/a.JPEG: .*{reason}"):
        open_data(tmp_path)[0]


@pytest.mark.parametrize("root", ["VOCdevkit/VOC2012", "VOC2012", "."])
def test_voc_masks(tmp_path, root):
    make.voc(tmp_path / root)
    data = open_data(tmp_path)
    assert (data.name, len(data.classes), list(data.ids)) == ("voc2012/val", 20, ["2007_000033"])
    assert data[0].truth.values.tolist() == [[0, 1, 1, VOID], [0, 0, 20, VOID], [0] * 4]
    assert [data.classes[label] for label in data[0].labels] == ["aeroplane", "tvmonitor"]


def test_voc_trainaug(tmp_path):
    data = open_data(make.voc(tmp_path), split="trainaug", groups={14: (981,)})
    assert data.groups == {14: (981,)}
    assert [[data.classes[label] for label in sample.labels] for sample in data] == [["person"], ["person"]]


def test_voc_boxes(tmp_path):
    data = open_data(make.voc(tmp_path), truth="boxes")
    assert list(data.ids) == ["2007_000033/aeroplane", "2007_000033/person"]
    assert [data.classes[sample.labels[0]] for sample in data] == ["aeroplane", "person"]
    assert data[0].truth == Boxes(((0, 0, 0.5, 1),)), "the last pixel belongs to the box"
    assert data[1].truth == Boxes(((0.5, 1 / 3, 1, 1), (0, 0, 0.25, 1 / 3)))


def test_groups_of_voc_are_imagenet_classes(tmp_path):
    groups = open_data(make.voc(tmp_path)).groups
    assert set(groups) <= set(range(20))
    assert all(0 <= index < 1000 for group in groups.values() for index in group)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: (root / "SegmentationClass/2007_000033.png").unlink(), "there is no mask"),
        (lambda root: (root / "JPEGImages/2007_000033.jpg").unlink(), "no file"),
        (lambda root: make.label_image(root / "SegmentationClass/2007_000033.png", [[21] * 4] * 3), "holds 21"),
        (lambda root: make.picture(root / "SegmentationClass/2007_000033.png", 4, 3), "has 3 channels"),
        (
            lambda root: make.label_image(root / "SegmentationClass/2007_000033.png", [[0] * 3] * 4),
            "mask has the shape",
        ),
    ],
)
def test_broken_samples_of_voc(tmp_path, spoil, reason):
    spoil(make.voc(tmp_path))
    with pytest.raises(BadSample, match=f"2007_000033: .*{reason}"):
        open_data(tmp_path)[0]


def test_broken_voc(tmp_path):
    make.voc(tmp_path)
    with pytest.raises(BadData, match=r"train\.txt' cannot be read: No such file"):
        open_data(tmp_path, split="train")
    with pytest.raises(BadData, match="expected split one of train, val"):
        open_data(tmp_path, split="test")
    with pytest.raises(BadData, match=r"truth masks or boxes .* got .* truth='outlines'"):
        open_data(tmp_path, truth="outlines")
    make.annotation(tmp_path / "Annotations/2007_000033.xml", [], (4, 3))
    with pytest.raises(BadSample, match=r"aeroplane: .* has no box of aeroplane"):
        open_data(tmp_path, truth="boxes")[0]
    make.text(tmp_path / "ImageSets/Main/cat_val.txt", "2007_000033\n")
    with pytest.raises(BadData, match=r"cat_val\.txt.*expected 'picture 1, 0 or -1'"):
        open_data(tmp_path, truth="boxes")
    make.text(tmp_path / "ImageSets/Segmentation/val.txt", "2007_000033\n2007_000033\n")
    with pytest.raises(BadData, match="'2007_000033' is there 2 times"):
        open_data(tmp_path)
    make.text(tmp_path / "ImageSets/Segmentation/val.txt", "\n")
    with pytest.raises(BadData, match="is empty"):
        open_data(tmp_path)


def test_masks_of_names(tmp_path):
    data = open_data(make.masks(tmp_path))
    assert data.classes == ("cat", "dog"), "in the order of the numbers; a name without a number is none"
    assert data.groups == {0: (281, 282), 1: (151,)}
    assert data[0].truth.values.tolist() == [[VOID, 1, 1], [0, 2, 0]]
    assert [sample.labels for sample in data] == [(0, 1), ()]


def test_masks_of_names_without_imagenet_classes(tmp_path):
    make.text(
        make.masks(tmp_path) / "classes.json",
        '{"mask_value_to_name": {"0": "background", "1": "person", "17": "cat", "90": "cat", "99": "void"}}',
    )
    data = open_data(tmp_path)
    assert (data.classes, data.groups) == (("person", "cat"), {})
    assert data[0].truth.values.tolist() == [[0, 2, 2], [1, 2, VOID]]


def test_masks_without_names(tmp_path):
    data = open_data(make.masks(tmp_path, meaning=False))
    assert data.classes == ()
    assert data[0].truth.values.tolist() == [[0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"mask_value_to_name": []}', '{"mask_value_to_name": {"x": "cat"}}', '{"mask_value_to_name": {}}',
     '{"mask_value_to_name": {"1": "cat"}, "name_to_imagenet_classes": {"cat": [1000]}}',
     '{"mask_value_to_name": {"1": "cat"}, "name_to_imagenet_classes": {"cat": 3}}',
     '{"mask_value_to_name": {"1": "cat"}, "name_to_imagenet_classes": {"dog": [3]}}'],
)  # fmt: skip
def test_broken_names(tmp_path, content):
    make.text(make.masks(tmp_path) / "classes.json", content)
    with pytest.raises(BadData, match=r"classes\.json.*expected\nFOLDER/images|names no class"):
        open_data(tmp_path)


def test_broken_masks(tmp_path):
    make.masks(tmp_path)
    make.picture(tmp_path / "images" / "c.png")
    make.label_image(tmp_path / "masks" / "d.png", [[0]])
    make.label_image(tmp_path / "masks" / "a.png", [[5]])
    data = open_data(tmp_path)
    for number, reason in ((0, "a: the mask holds 5"), (2, "c: there is no file c"), (3, "d: there is no file d")):
        with pytest.raises(BadSample, match=reason):
            data[number]
    make.picture(tmp_path / "images" / "a.png")
    with pytest.raises(BadData, match=r"holds both 'a.jpg' and 'a.png'|holds both 'a.png' and 'a.jpg'"):
        open_data(tmp_path)
