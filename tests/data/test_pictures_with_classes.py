"""ImageNet's layouts, tables and plain folders."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from gradtoken.data import open_data
from gradtoken.data.pixels import as_stored
from gradtoken.data.sample import Boxes
from gradtoken.errors import BadData, BadSample
from gradtoken.models.pictures import open_picture
from tests.data import make

CLASSES = [
    (1, "n02119789", "kit fox", 0),
    (2, "n01440764", "tench, Tinca tinca", 0),
    (3, "n01443537", "goldfish", 0),
    (4, "n00001740", "entity", 3),
]


def flat(root, answers=(1, 3, 2)):
    for i in (1, 3):
        make.picture(root / f"ILSVRC2012_val_0000000{i}.JPEG")
    make.devkit(root / "ILSVRC2012_devkit_t12" / "data", answers, CLASSES)
    return root


def cut(path, end):
    path.write_bytes(path.read_bytes()[:end])


def test_folders_of_classes(tmp_path):
    make.text(make.imagenet(tmp_path) / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    data = open_data(tmp_path)
    assert data.name == "imagenet/val"
    assert len(data.classes) == 1000
    assert data.classes[:3] == ("tench, Tinca tinca", "goldfish", "n01484850"), "in the order of the synsets"
    assert list(data.ids[:1]) == ["n01440764/n01440764_0.JPEG"]
    assert [sample.labels for sample in data] == [(0,), (0,), (1,), (1,)]
    assert data[0].input.size == (8, 6)
    assert data[0].truth is None
    assert open_data(tmp_path / "val").ids == data.ids


def test_some_of_imagenets_classes(tmp_path):
    """Numbers are those of an ImageNet model, or the folders' own for a model of these classes."""
    data = open_data(make.imagenet(tmp_path, ("n02119789", "n15075141"), each=1))
    assert [sample.labels for sample in data] == [(278,), (999,)]
    own = open_data(tmp_path, numbers="folders")
    assert [sample.labels for sample in own] == [(0,), (1,)]
    assert own.classes == ("n02119789", "n15075141")
    with pytest.raises(BadData, match="expected numbers imagenet or folders, got 'mine'"):
        open_data(tmp_path, numbers="mine")


def test_synsets_that_imagenet_lacks_are_numbered_as_folders(tmp_path):
    data = open_data(make.imagenet(tmp_path, ("n02119789", "n00000001"), each=1))
    assert data.classes == ("n00000001", "n02119789")
    assert [sample.labels for sample in data] == [(0,), (1,)]


def test_boxes_may_lie_elsewhere_and_may_be_left_out(tmp_path):
    make.imagenet(tmp_path / "a", ("n01440764",), each=1)
    path = make.annotation(tmp_path / "b" / "n01440764_0.xml", [("n01440764", 0, 0, 4, 3)])
    assert open_data(tmp_path / "a", boxes=path.parent)[0].truth == Boxes(((0, 0, 0.5, 0.5),))
    with pytest.raises(BadData, match=r"there is no folder .* expected annotations in it"):
        open_data(tmp_path / "a", boxes=tmp_path / "c")
    path.parent.rename(tmp_path / "a" / "bbox")
    assert open_data(tmp_path / "a")[0].truth is not None
    assert open_data(tmp_path / "a", boxes="none")[0].truth is None


def test_any_folders_are_classes_when_asked(tmp_path):
    for name in ("dog", "cat"):
        make.picture(tmp_path / name / "a.png")
    data = open_data(tmp_path, "imagenet")
    assert (data.classes, data.groups) == (("cat", "dog"), {})


@pytest.mark.parametrize("elsewhere", [False, True])
def test_flat_validation_pictures(tmp_path, elsewhere):
    pytest.importorskip("scipy")
    flat(tmp_path / "val")
    kit = (tmp_path / "val" / "ILSVRC2012_devkit_t12").rename(tmp_path / "kit") if elsewhere else "auto"
    data = open_data(tmp_path, devkit=kit)
    assert (data.classes[0], data.classes[278]) == ("tench, Tinca tinca", "kit fox")
    numbers = {sample.id: sample.labels for sample in data}
    assert numbers == {"ILSVRC2012_val_00000001.JPEG": (278,), "ILSVRC2012_val_00000003.JPEG": (0,)}, "by file name"
    own = open_data(tmp_path, devkit=kit, numbers="folders")
    assert own.classes == ("tench, Tinca tinca", "goldfish", "kit fox"), "sorted by synset, without the inner one"
    assert [sample.labels for sample in own] == [(2,), (0,)]


@pytest.mark.parametrize("folder", ["bbox/n01440764", "bbox/val/n01440764", "Annotations"])
def test_boxes_of_the_class(tmp_path, folder):
    make.imagenet(tmp_path, ("n01440764",))
    boxes = [("n01440764", 0, 3, 4, 6), ("n02119789", 0, 0, 1, 1), ("n01440764", 4, 0, 8, 3)]
    make.annotation(tmp_path / folder / "n01440764_0.xml", boxes)
    first, second = open_data(tmp_path)
    assert first.truth == Boxes(((0, 0.5, 0.5, 1), (0.5, 0, 1, 0.5)))
    assert second.truth is None


def test_an_annotation_of_the_same_picture_at_another_size(tmp_path):
    make.imagenet(tmp_path, ("n01440764",), each=1)
    make.annotation(tmp_path / "bbox" / "n01440764_0.xml", [("n01440764", 0, 0, 400, 300)], (800, 600))
    assert open_data(tmp_path)[0].truth == Boxes(((0, 0, 0.5, 0.5),))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation>", "is damaged"),
        ("", "is damaged"),
        ("<annotation><size><width>6</width><height>8</height></size></annotation>", "of a picture of 6 x 8 pixels"),
        ("<annotation><size><width>wide</width><height>8</height></size></annotation>", "says 'wide' where size/width"),
        ("<annotation/>", "says '' where size/width should be a number"),
    ],
)
def test_broken_annotations(tmp_path, content, reason):
    make.imagenet(tmp_path, ("n01440764",), each=1)
    make.text(tmp_path / "bbox" / "n01440764_0.xml", content)
    with pytest.raises(BadSample, match=f"n01440764_0.JPEG: .*{reason}"):
        open_data(tmp_path)[0]


@pytest.mark.parametrize(
    "box", [(4, 0, 4, 3), (5, 0, 4, 3), (0, 0, 9, 3), (-1, 0, 4, 3), ("nan", 0, 4, 3), ("inf", 0, 1, 1)]
)
def test_broken_boxes(tmp_path, box):
    make.imagenet(tmp_path, ("n01440764",), each=1)
    make.annotation(tmp_path / "bbox" / "n01440764_0.xml", [("n01440764", *box)])
    with pytest.raises(BadSample, match=r"n01440764_0.JPEG: .*(expected a box|should be a number)"):
        open_data(tmp_path)[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: (root / "val").rename(root / "train"), "has no part 'val'; it has train"),
        (lambda root: [path.unlink() for path in (root / "val").rglob("*.JPEG")], "no picture lies in"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, spoil, reason):
    spoil(make.imagenet(tmp_path))
    with pytest.raises(BadData, match=reason):
        open_data(tmp_path, "imagenet")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda kit: make.text(kit / "ILSVRC2012_validation_ground_truth.txt", "1\n"), "has no answer: .* has 1 lines"),
        (lambda kit: make.text(kit / "ILSVRC2012_validation_ground_truth.txt", "1\n1\n4\n"), "line 3 .* is '4'"),
        (lambda kit: make.text(kit / "ILSVRC2012_validation_ground_truth.txt", "1\n1\nx\n"), "line 3 .* is 'x'"),
        (lambda kit: (kit / "meta.mat").unlink(), "there is no .*meta.mat"),
        (lambda kit: make.text(kit / "meta.mat", "MATLAB"), "is not the development kit's meta.mat"),
        (lambda kit: cut(kit / "meta.mat", 200), "is not the development kit's meta.mat"),
        (lambda kit: cut(kit / "meta.mat", -20), "is not the development kit's meta.mat"),
        (lambda kit: (kit / "ILSVRC2012_validation_ground_truth.txt").unlink(), "put the development kit beside"),
        (lambda kit: make.picture(kit.parent.parent / "b.jpg"), "'b.jpg' .* is not named as"),
    ],
)
def test_broken_development_kits(tmp_path, spoil, reason):
    pytest.importorskip("scipy")
    spoil(flat(tmp_path) / "ILSVRC2012_devkit_t12" / "data")
    with pytest.raises(BadData, match=reason):
        open_data(tmp_path)


def test_a_table_with_numbers(tmp_path):
    header = ("file", "class_index", "synset", "name", "boxes_xyxy_fraction")
    rows = [("a.png", 3, "n1", "tiger shark, tiger", "[[0.1, 0.2, 0.5, 1.0]]"), ("b.png", 1, "n2", "goldfish", "[]")]
    data = open_data(make.table(tmp_path, header, *rows, ("c.png", "", "", "", "")))
    assert data.classes == ("class 0", "goldfish", "class 2", "tiger shark, tiger")
    assert data.groups == {}, "class_index is the model's own number"
    assert [sample.labels for sample in data] == [(3,), (1,), ()]
    assert [sample.truth for sample in data] == [Boxes(((0.1, 0.2, 0.5, 1.0),)), None, None]


@pytest.mark.parametrize("column", ["label", "class", "name"])
def test_a_table_with_names(tmp_path, column):
    rows = [("x/a.png", "dog", "val"), ("b.png", "cat", "val"), ("c.png", "cow", "train")]
    root = make.table(tmp_path, ("file", column, "split"), *rows, folder=".")
    (root / "labels.csv").rename(root / "mine.csv")
    data = open_data(root, split="val")
    assert data.name == "csv/mine val"
    assert (data.classes, data.groups) == (("cat", "dog"), {})
    assert [sample.labels for sample in data] == [(1,), (0,)]
    assert len(open_data(root / "mine.csv")) == 3
    with pytest.raises(BadData, match="no row of the split 'test'"):
        open_data(root, split="test")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has the columns"),
        ("file,class_index\n", "no row is in"),
        ("name,class_index\na.png,1\n", "has the columns"),
        ("file,class_index\na.png,-1\n", "class_index '-1' of 'a.png'"),
        ("file,class_index\na.png,1.0\n", "class_index '1.0'"),
        ("file,class_index\na.png,99999999999\n", "class_index '99999999999'"),
        ("file,class_index\na.png,1,2\n", "line 2 .* has 3 cells"),
        ('file,class_index\n"a.png,1\n', "is no CSV"),
        ("file,class_index\na.png,1\na.png,2\n", "'a.png' is there 2 times"),
        ("file,class_index\nb\ufeff,1\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_broken_tables(tmp_path, content, reason):
    (tmp_path / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadData, match=reason):
        open_data(tmp_path)


@pytest.mark.parametrize(
    "cell", ["[[0, 0, 1]]", "[0, 0, 1, 1]", "[[0, 0, 1", '[["a", 0, 1, 1]]', "7", "[[0, 0, 0, 1]]", "[[0,0,1,1.01]]"]
)
def test_broken_boxes_in_a_table(tmp_path, cell):
    data = open_data(make.table(tmp_path, ("file", "class", "boxes_xyxy_fraction"), ("a.png", "dog", cell)))
    with pytest.raises(BadSample, match=r"a\.png: .*expected"):
        data[0]


def test_missing_and_damaged_pictures_are_told_when_read(tmp_path):
    data = open_data(make.table(tmp_path, ("file", "class"), ("a.png", "dog"), ("b.png", "cat")))
    (tmp_path / "images" / "a.png").unlink()
    make.text(tmp_path / "images" / "b.png", "no picture")
    with pytest.raises(BadSample, match=r"a\.png: no file"):
        data[0]
    with pytest.raises(BadSample, match=r"b\.png: .* is text, not a picture"):
        data[1]


def test_plain_pictures(tmp_path):
    make.picture(tmp_path / "b.png")
    make.picture(tmp_path / "more" / "a.jpg")
    make.text(tmp_path / "notes.txt", "?")
    make.text(tmp_path / ".hidden.png", "?")
    data = open_data(tmp_path)
    assert list(data.ids) == ["b.png", "more/a.jpg"]
    assert [(sample.labels, sample.truth) for sample in data] == [((), None)] * 2
    assert (data.classes, data.name) == ((), f"pictures/{tmp_path.name}")


def test_no_pictures(tmp_path):
    with pytest.raises(BadData, match="no picture lies in or below"):
        open_data(tmp_path, "pictures")


@pytest.mark.parametrize("orientation", range(10))
def test_pixels_as_stored(tmp_path, orientation):
    """Boxes of ImageNet are of the pixels in the file, whichever way EXIF says to turn them."""
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(as_stored(tmp_path / "a.png")), pixels)
    turned = np.asarray(open_picture(tmp_path / "a.png"))
    assert np.array_equal(turned, pixels) == (orientation in (0, 1, 9)), "the test itself: it is turned otherwise"
