"""What a network is, for a prediction: a star of equal cables; and how a person writes its rate and its latency."""

import math
import re
from collections.abc import Sequence

from psopt.errors import ConfigError
from psopt.records import record

SEGMENT = 1448
"""Bytes of content that TCP puts into an Ethernet frame of 1500 bytes, with its time stamps."""

FRAME_OVERHEAD = 90
"""What a frame takes beside: gap and preamble 20, Ethernet 18, IP 20, TCP with time stamps 32."""

ENVELOPE = 48
"""What MPI itself puts before a message, roughly: it matters for the smallest ones alone."""

RATES = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "b": 8.0, "kb": 8e3, "mb": 8e6, "gb": 8e9}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
MOST_NETWORKS = 64
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ]+(?:/s)?)")


@record
class Network:
    """A star: each host has a cable of its own to a switch that is never short.

    Attributes
    ----------
    bits_per_s : float
        Of each cable, in either direction.
    latency_s : float
        From host to host, one way.
    name : str
        As it is printed.
    """

    bits_per_s: float
    latency_s: float
    name: str

    @property
    def bytes_per_s(self) -> float:
        return self.bits_per_s / 8


def wire_nbytes(nbytes: int) -> int:
    """What a message of so many bytes takes on a cable, with the overhead of its frames."""
    content = nbytes + ENVELOPE
    return content + -(-content // SEGMENT) * FRAME_OVERHEAD


def parse_rate(text: str) -> float:
    """Bits a second of ``100Mbit``, ``1Gbit/s``, ``2.5Gbps`` or ``10MB/s``: `B` are bytes; multiples are of 1000."""
    value, unit = _quantity(text, "--bandwidth", "a rate such as 100Mbit, 1Gbit or 10MB/s")
    name = unit.lower().removesuffix("/s")
    if name.endswith("bps"):
        name = f"{name[:-3]}{'b' if unit.endswith('Bps') else 'bit'}"
    if name not in RATES or ("bit" not in name and "B" not in unit):
        raise ConfigError(
            f"--bandwidth `{text}` has the unit `{unit}`; expected kbit, Mbit or Gbit for bits, kB, MB or GB for bytes"
        )
    return _positive(value * RATES[name], text, "--bandwidth")


def parse_latency(text: str) -> float:
    """Seconds of ``5ms``, ``20us`` or ``0.1s``, from host to host, one way."""
    value, unit = _quantity(text, "--latency", "a time such as 5ms or 20us")
    scale = TIMES.get(unit.replace("µ", "u").lower())
    if scale is None:
        raise ConfigError(f"--latency `{text}` has the unit `{unit}`; expected us, ms or s")
    if not value * scale <= 100.0:
        raise ConfigError(f"--latency `{text}` is longer than 100 s")
    return value * scale


def parse_networks(rates: Sequence[str], latencies: Sequence[str]) -> list[Network]:
    """The networks that several rates and latencies mean, each of which may be a list with commas.

    As many of one as of the other: the first with the first, and so on. One alone goes with all of the other.
    """
    rate_texts, latency_texts = _listed(rates, "--bandwidth"), _listed(latencies, "--latency")
    number = max(len(rate_texts), len(latency_texts))
    if len(rate_texts) not in (1, number) or len(latency_texts) not in (1, number):
        raise ConfigError(
            f"--bandwidth names {len(rate_texts)} rates and --latency {len(latency_texts)} times; expected as many of "
            "one as of the other, or one for all"
        )
    if number > MOST_NETWORKS:
        raise ConfigError(f"{number} networks; expected {MOST_NETWORKS} at most")
    pairs = zip(rate_texts * (number // len(rate_texts)), latency_texts * (number // len(latency_texts)), strict=True)
    return [Network(parse_rate(rate), parse_latency(latency), f"{rate} {latency}") for rate, latency in pairs]


def _listed(texts: Sequence[str], option: str) -> list[str]:
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not parts or not all(parts):
        raise ConfigError(f"{option} `{','.join(texts)}` has an empty place")
    return parts


def _quantity(text: str, option: str, expected: str) -> tuple[float, str]:
    found = _QUANTITY.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{option} `{text}` cannot be read; expected {expected}")
    return float(found[1]), found[2]


def _positive(value: float, text: str, option: str) -> float:
    if not 0 < value < math.inf:
        raise ConfigError(f"{option} `{text}` is not above 0")
    return value
