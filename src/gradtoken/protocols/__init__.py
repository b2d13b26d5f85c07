"""The published experiments: frozen settings under a name that is printed with every number."""

from gradtoken.named import Named
from gradtoken.protocols import (
    confidence,
    localisation,
    mosaics,
    multiclass,
    perturbation,
    rationales,
    sanity,
    segmentation,
    words,
)
from gradtoken.protocols.protocol import Protocol

PROTOCOLS: Named[Protocol] = Named("protocol")
for one in (
    *confidence.PUBLISHED,
    *localisation.PUBLISHED,
    *mosaics.PUBLISHED,
    *multiclass.PUBLISHED,
    *perturbation.PUBLISHED,
    *rationales.PUBLISHED,
    *sanity.PUBLISHED,
    *segmentation.PUBLISHED,
    *words.PUBLISHED,
):
    PROTOCOLS.enter(one)

__all__ = ["PROTOCOLS"]
