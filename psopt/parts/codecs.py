"""Codecs: what of a contribution is said, and how both ends remember what was said.

For each worker the server's ``stale[m]`` and the worker's mirror are the same vector, and both change as `absorb` has
it. Memory and mirror change only in `commit`, when the trigger has said yes.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from psopt.parts.compressors import Compressor, Identity
from psopt.records import record


class Codec(Protocol):
    """``scaled``: the step size multiplies a contribution here, before it is compressed, and no longer in the update.
    ``replaces``: a payload takes the place of what was there, instead of changing it. ``verbatim``: it is that very
    vector.

    May have ``ignores_mirror``: `commit` does not read the mirror where the codec is verbatim, so that contribution and
    mirror may be one vector.
    """

    compressor: Compressor
    replaces: ClassVar[bool]

    @property
    def scaled(self) -> bool: ...

    @property
    def verbatim(self) -> bool: ...

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> Any: ...

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        """The most bytes a payload can take."""
        ...

    def commit(
        self, state: Any, contribution: np.ndarray, mirror: np.ndarray, step_size: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The payload, valid until the contribution changes or the next call, and the mirror from now on.

        The mirror is the array that was given, or another that holds what was said already, the contribution's own
        among them: then the two change hands, and nothing is copied.
        """
        ...

    def absorb(self, stale: np.ndarray, payload: np.ndarray) -> None: ...


class _Said:
    """``compressor``: its state. ``residual``: e, what has not been said yet. ``scaled``: room for the product."""

    SAVED = ("compressor", "residual")
    __slots__ = ("compressor", "residual", "scaled")

    def __init__(self, compressor: Any, residual: np.ndarray | None, scaled: np.ndarray | None) -> None:
        self.compressor, self.residual, self.scaled = compressor, residual, scaled


@record
class Overwrite:
    """h <- C(s x), or with error feedback h <- C(u), e <- u - C(u), where u = e + s x.

    Attributes
    ----------
    compressor : Compressor
        C: which entries are sent.
    feedback : bool
        Whether what C leaves out is kept and added to the next upload (Stich, Cordonnier, Jaggi 2018).
    scale : 'none' or 'step'
        s: 1, or the step size of the round, which then does not multiply again in the update (SASG).
    """

    compressor: Compressor = field(default_factory=Identity)
    feedback: bool = False
    scale: Literal["none", "step"] = "none"

    replaces: ClassVar[bool] = True
    ignores_mirror: ClassVar[bool] = True

    @property
    def scaled(self) -> bool:
        return self.scale == "step"

    @property
    def verbatim(self) -> bool:
        return type(self.compressor) is Identity

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> _Said:
        dim = sum(sizes)
        residual = np.zeros(dim, dtype) if self.feedback else None
        scaled = np.empty(dim, dtype) if self.scaled and not self.feedback else None
        return _Said(self.compressor.init(sizes, dtype, rng), residual, scaled)

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        return self.compressor.capacity(sizes, dtype)

    def commit(
        self, state: _Said, contribution: np.ndarray, mirror: np.ndarray, step_size: float
    ) -> tuple[np.ndarray, np.ndarray]:
        said = contribution
        if state.residual is not None:
            payload = self.compressor.feed_back(state.compressor, state.residual, said, step_size)
        else:
            if state.scaled is not None:
                said = np.multiply(contribution, contribution.dtype.type(step_size), out=state.scaled)
            payload = self.compressor.compress(state.compressor, said)
            if payload is said:
                if said is state.scaled:
                    state.scaled = mirror
                return payload, said
        self.absorb(mirror, payload)
        return payload, mirror

    def absorb(self, stale: np.ndarray, payload: np.ndarray) -> None:
        self.compressor.decompress(payload, stale)


class _Corrected:
    """``compressor``: its state. ``difference``: room for x - h."""

    SAVED = ("compressor",)
    __slots__ = ("compressor", "difference")

    def __init__(self, compressor: Any, difference: np.ndarray) -> None:
        self.compressor, self.difference = compressor, difference


@record
class Increment:
    """h <- h + C(x - h): what is sent corrects what was there, so that C's error feeds back by itself.

    EF21 (Richtarik, Sokolov, Fatkhullin 2021), and with trigger `relative` CLAG (Richtarik et al., ICML 2022).

    Attributes
    ----------
    compressor : Compressor
        C: which entries are sent.
    """

    compressor: Compressor = field(default_factory=Identity)

    replaces: ClassVar[bool] = False
    scaled: ClassVar[bool] = False
    verbatim: ClassVar[bool] = False

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> _Corrected:
        return _Corrected(self.compressor.init(sizes, dtype, rng), np.empty(sum(sizes), dtype))

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        return self.compressor.capacity(sizes, dtype)

    def commit(
        self, state: _Corrected, contribution: np.ndarray, mirror: np.ndarray, step_size: float
    ) -> tuple[np.ndarray, np.ndarray]:
        np.subtract(contribution, mirror, out=state.difference)
        payload = self.compressor.compress(state.compressor, state.difference)
        self.absorb(mirror, payload)
        return payload, mirror

    def absorb(self, stale: np.ndarray, payload: np.ndarray) -> None:
        self.compressor.add(payload, stale)
