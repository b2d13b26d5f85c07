"""Tiny data sets in the exact layouts of the real ones."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

PALETTE = [value for i in range(256) for value in (i, 255 - i, i * 7 % 256)]


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def picture(path: Path, width: int = 8, height: int = 6, colour=(200, 100, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path, format="PNG" if path.suffix == ".png" else "JPEG")
    return path


def label_image(path: Path, values, palette: bool = False) -> Path:
    """One-channel PNG, or a palette image with these places, as PASCAL VOC's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if palette:
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(PALETTE)
    image.save(path)
    return path


def annotation(path: Path, boxes, size=(8, 6)) -> Path:
    """boxes: (name, xmin, ymin, xmax, ymax)."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in boxes
    )
    sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return text(path, f"<annotation><folder>val</folder>{sized}{objects}</annotation>")


def imagenet(root: Path, synsets=("n01443537", "n01440764"), each: int = 2) -> Path:
    for synset in synsets:
        for i in range(each):
            picture(root / "val" / synset / f"{synset}_{i}.JPEG")
    return root


def devkit(folder: Path, answers, synsets) -> Path:
    """synsets: (id, synset, words, children)."""
    from scipy.io import savemat

    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", object), ("words", object), ("gloss", object), ("num_children", "f8")]
    kinds += [("children", object), ("wordnet_height", "f8"), ("num_train_images", "f8")]
    table = np.zeros((len(synsets), 1), dtype=kinds)
    for row, (id, synset, words, children) in zip(table[:, 0], synsets, strict=True):
        row["ILSVRC2012_ID"], row["WNID"], row["words"], row["num_children"] = id, synset, words, children
        row["gloss"], row["children"] = "a thing", np.arange(children)
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "meta.mat", {"synsets": table})
    text(folder / "ILSVRC2012_validation_ground_truth.txt", "".join(f"{answer}\n" for answer in answers))
    return folder


def imagenet_segmentation(path: Path, pictures, masks) -> Path:
    """A MATLAB v7.3 file: references to transposed arrays, and for each answer a cell that refers to it.

    pictures: (H, W, 3), masks: (H, W), uint8.
    """
    import h5py

    with h5py.File(path, "w") as file:
        store = file.create_group("#refs#")
        value = file.create_group("value")
        img = value.create_dataset("img", (len(pictures), 1), dtype=h5py.ref_dtype)
        gt = value.create_dataset("gt", (len(masks), 1), dtype=h5py.ref_dtype)
        for i, array in enumerate(pictures):
            img[i, 0] = store.create_dataset(f"img{i}", data=np.asarray(array).transpose()).ref
        for i, array in enumerate(masks):
            inner = store.create_dataset(f"gt{i}", data=np.asarray(array).transpose())
            cell = store.create_dataset(f"cell{i}", (1, 1), dtype=h5py.ref_dtype)
            cell[0, 0] = inner.ref
            gt[i, 0] = cell.ref
    return path


def imagenet_s(root: Path, split: str = "validation") -> Path:
    """Two of three listed classes have pictures."""
    text(root / "ImageNetS_categories_im50.txt", "n01531178\nn01443537\nn01491361\n")
    for synset, numbers in (("n01443537", [[0, 1], [1, 1000]]), ("n01531178", [[3, 3], [1, 0]])):
        picture(root / split / synset / "a.JPEG", 2, 2)
        values = np.asarray(numbers)
        coded = np.stack([values % 256, values // 256, 0 * values], axis=-1).astype(np.uint8)
        path = root / f"{split}-segmentation" / synset / "a.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coded).save(path)
    return root


def voc(root: Path) -> Path:
    """Two pictures with masks, one of which is of trainaug alone; boxes of two classes."""
    from gradtoken.data.voc2012 import CLASSES

    for name in ("2007_000033", "2008_000001"):
        picture(root / "JPEGImages" / f"{name}.jpg", 4, 3)
        label_image(root / "SegmentationClassAug" / f"{name}.png", [[0, 0, 15, 15]] * 3)
    label_image(
        root / "SegmentationClass" / "2007_000033.png", [[0, 1, 1, 255], [0, 0, 20, 255], [0] * 4], palette=True
    )
    text(root / "ImageSets/Segmentation/val.txt", "2007_000033\n")
    text(root / "ImageSets/Segmentation/trainaug.txt", "2007_000033\n2008_000001\n")
    shown = {"aeroplane": ("1", "-1"), "person": ("1", "0")}
    for cls in CLASSES:
        one, two = shown.get(cls, ("-1", "-1"))
        text(root / f"ImageSets/Main/{cls}_val.txt", f"2007_000033 {one:>2}\n2008_000001 {two:>2}\n")
    boxes = [("aeroplane", 1, 1, 2, 3), ("person", 3, 2, 4, 3), ("person", 1, 1, 1, 1)]
    annotation(root / "Annotations/2007_000033.xml", boxes, (4, 3))
    return root


def masks(root: Path, meaning=True) -> Path:
    for name, values in (("a", [[0, 17, 17], [1, 90, 99]]), ("b", [[99, 99, 99], [99, 99, 99]])):
        picture(root / "images" / f"{name}.jpg", 3, 2)
        label_image(root / "masks" / f"{name}.png", values)
    if meaning:
        names = {"0": "unlabeled", "1": "person", "17": "cat", "90": "dog", "99": "wall"}
        groups = {"cat": [281, 282], "dog": [151], "cow": [345]}
        text(root / "classes.json", json.dumps({"mask_value_to_name": names, "name_to_imagenet_classes": groups}))
    return root


def table(root: Path, header, *rows, folder: str = "images") -> Path:
    for row in rows:
        picture(root / folder / row[0])
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return root


def span(doc: str, start: int, end: int) -> dict:
    return {"docid": doc, "start_token": start, "end_token": end, "start_sentence": -1, "end_sentence": -1, "text": ""}


def movies(root: Path) -> Path:
    text(root / "docs/negR_900.txt", "a dull , long film .\nit n't ends\n")
    text(root / "docs/posR_900.txt", "great fun .")
    reviews = [
        (
            "negR_900.txt",
            "NEG",
            [[span("negR_900.txt", 1, 3)], [span("negR_900.txt", 2, 4), span("negR_900.txt", 8, 8)]],
        ),
        ("posR_900.txt", "POS", []),
    ]
    facts = [
        {"annotation_id": id, "classification": label, "docids": None, "evidences": evidence, "query": "?"}
        for id, label, evidence in reviews
    ]
    text(root / "test.jsonl", "".join(json.dumps(fact) + "\n" for fact in facts))
    return root


def sst2(root: Path) -> Path:
    text(root / "test.tsv", "a dull , long film\t0\n\ngreat\tfun .\t1\r\n")
    text(root / "dev.tsv", "fine\t1")
    return root
