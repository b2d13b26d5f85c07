"""The pictures that come with the package, as buttons of the page."""

from importlib.resources import files

from PIL import Image

from gradtoken.draw.overlay import resized
from gradtoken.models.pictures import open_picture

FOLDER = files("gradtoken") / "models" / "bundled" / "pictures"
SAMPLES = {
    "cat_and_giraffe.jpg": "a cat beside giraffes",
    "cat.jpg": "a cat",
    "dog.jpg": "a dog",
    "duck.jpg": "a duck",
    "giraffe.jpg": "a giraffe",
    "horse.jpg": "a horse",
}
THUMB = 120  # pixels of the longest side of a button


def thumbnails() -> dict[str, tuple[Image.Image, str]]:
    """The samples, small, with what they show."""
    found = {name: open_picture((FOLDER / name).read_bytes()) for name in SAMPLES}
    return {name: (resized(found[name], (0, 0, 1, 1), THUMB)[0], words) for name, words in SAMPLES.items()}
