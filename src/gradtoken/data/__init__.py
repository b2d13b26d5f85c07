"""Data sets: one file each, opened by `open_data`, checked by `check`."""

from gradtoken.data import imagenet as imagenet
from gradtoken.data import imagenet_s as imagenet_s
from gradtoken.data import imagenet_segmentation as imagenet_segmentation
from gradtoken.data import masks as masks
from gradtoken.data import movies as movies
from gradtoken.data import pictures as pictures
from gradtoken.data import sst2 as sst2
from gradtoken.data import table as table
from gradtoken.data import voc2012 as voc2012
from gradtoken.data.checking import Problem as Problem
from gradtoken.data.checking import check as check
from gradtoken.data.describing import describe as describe
from gradtoken.data.entry import DATASETS as DATASETS
from gradtoken.data.entry import Kind as Kind
from gradtoken.data.opening import open_data as open_data
