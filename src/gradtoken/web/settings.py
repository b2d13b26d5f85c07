"""What whoever starts the page decides, and how much a visitor may ask of it."""

import ipaddress
from dataclasses import dataclass

MEGABYTE = 2**20


@dataclass(frozen=True)
class Settings:
    """models: the names offered, the first one at the start.

    bytes, pixels: the largest picture that is taken. held: pixels of all visitors' pictures kept at once.
    visitors: how many are remembered. idle: seconds after which one is forgotten. loaded: models kept in memory.
    words: letters of a text.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    models: tuple[str, ...] = ("bundled",)
    device: str | None = None
    bytes: int = 20 * MEGABYTE
    pixels: int = 50_000_000
    held: int = 200_000_000
    visitors: int = 64
    idle: float = 1800.0
    loaded: int = 2
    letters: int = 20_000

    @property
    def private(self) -> bool:
        """Whether only this machine reaches the page. Then visitors may name any model, and a path is one."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or ::1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
