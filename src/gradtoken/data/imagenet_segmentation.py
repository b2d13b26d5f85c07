"""ImageNet-Segmentation: foreground masks of ImageNet pictures (Guillaumin, Kuettel, Ferrari 2014).

One MATLAB v7.3 file, which is HDF5: /value/img and /value/gt hold references, arrays are stored transposed, and each
answer is in a cell of its own.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.reading import data_set
from gradtoken.data.sample import DataSet, Mask, Sample
from gradtoken.errors import BadData, BadSample
from gradtoken.models.model import need
from gradtoken.models.pictures import LIMIT, open_picture

FILE = "gtsegs_ijcv.mat"
CELLS = 8  # most cells in cells: a reference may lead back to itself
BROKEN = (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError, AttributeError, MemoryError)  # of HDF5


@dataclass(frozen=True)
class Pictures:
    """The file is opened for each sample, so that threads and processes share nothing."""

    path: Path

    def __call__(self, number: int) -> Sample:
        h5py = need("h5py", "hdf5")
        try:
            with h5py.File(self.path, "r") as file:
                picture = array(h5py, file, file["/value/img"], number)
                values = array(h5py, file, file["/value/gt"], number)
        except BROKEN as error:
            raise BadSample(f"cannot be read from {str(self.path)!r}: {error}") from error
        if values.dtype.kind not in "bui" or values.ndim != 2 or values.size == 0 or values.max() > 1:
            raise BadSample(
                f"expected a mask (height, width) of whole numbers 0 and 1, got {values.dtype} {values.shape}"
            )
        return Sample(str(number), open_picture(picture), (), Mask(values.astype(np.int16)))


def array(h5py: Any, file: Any, references: Any, number: int) -> np.ndarray[Any, Any]:
    """What the reference of that number leads to, through cells to the first of their content, turned upright."""
    item = file[np.ravel(references)[number]]
    for _ in range(CELLS):
        if h5py.check_ref_dtype(item.dtype) is None:
            if item.size > 3 * LIMIT:
                raise ValueError(f"an array has {item.size} numbers; expected at most {3 * LIMIT}")
            return np.asarray(item).T
        item = file[np.ravel(item)[0]]
    raise ValueError(f"references lead on after {CELLS} cells")


def open_imagenet_segmentation(path: str | os.PathLike[str]) -> DataSet:
    """4276 pictures with a foreground mask, in the order of the file. Nothing says which class they show."""
    place = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not place.is_file():
        raise BadData(f"there is no {str(place)!r}; expected the file {FILE}")
    h5py = need("h5py", "hdf5")
    try:
        with h5py.File(place, "r") as file:
            counts = [file[name].size for name in ("/value/img", "/value/gt")]
    except BROKEN as error:
        raise BadData(f"{str(place)!r} is not {FILE}: {error}; expected HDF5 with /value/img and /value/gt") from error
    if counts[0] != counts[1]:
        raise BadData(f"{str(place)!r} holds {counts[0]} pictures and {counts[1]} masks; expected one for each")
    return data_set("imagenet-segmentation", [str(number) for number in range(counts[0])], Pictures(place))


def fits(path: Path) -> bool:
    return path.name == FILE or (path / FILE).is_file()


DATASETS.enter(
    Kind(
        name="imagenet-segmentation",
        open=open_imagenet_segmentation,
        summary="ImageNet-Segmentation: 4276 ImageNet pictures with foreground masks",
        where="http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat",
        licence="ImageNet terms of access: research, no redistribution",
        layout=f"FOLDER/{FILE}    or the file itself; needs gradtoken[hdf5]",
        fits=fits,
    )
)
