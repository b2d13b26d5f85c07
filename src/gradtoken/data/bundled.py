"""The demonstration pictures that ship with the package, with the bundled model's classes."""

from gradtoken.data.sample import DataSet, Sample
from gradtoken.models import bundled
from gradtoken.models.hub import read_json
from gradtoken.models.pictures import open_picture

LABELS = {"cat.jpg": "cat", "dog.jpg": "dog", "duck.jpg": "bird", "giraffe.jpg": "giraffe", "horse.jpg": "horse"}


def open_bundled() -> DataSet:
    """One picture of each of five classes."""
    classes = tuple(read_json(bundled.FOLDER / "facts.json")["classes"])
    names = list(LABELS)

    def read(i: int) -> Sample:
        picture = open_picture(bundled.FOLDER / "pictures" / names[i])
        return Sample(names[i], picture, (classes.index(LABELS[names[i]]),))

    return DataSet("bundled pictures", names, read, classes)
