"""The largest eigenvalue of a symmetric positive semidefinite matrix: the smoothness constants L_m and L."""

from collections.abc import Callable

import numpy as np

from psopt.errors import ConfigError

_BASIS = 40  # vectors held at once
_KEPT = 12  # Ritz vectors carried over a restart


def largest_eigenvalue(matrix: np.ndarray) -> float:
    """lambda_max of a symmetric matrix, shape (d, d), d >= 1."""
    if not np.isfinite(matrix).all():
        raise ConfigError("the smoothness constant cannot be found: X^T X is not finite")
    return float(np.linalg.eigvalsh(matrix)[-1])


@np.errstate(over="ignore", invalid="ignore")
def power_iteration(
    product: Callable[[np.ndarray, np.ndarray], None],
    dim: int,
    tolerance: float = 1e-12,
    max_iterations: int = 2000,
) -> float:
    """lambda_max of a symmetric positive semidefinite operator, from its products with vectors.

    The power method's vectors v, A v, A^2 v, ... are all kept, orthonormal, and the answer is the largest Rayleigh
    quotient over what they span (Lanczos); this is what makes close eigenvalues harmless. After `_BASIS` products
    the best `_KEPT` Ritz vectors stay and the rest goes. The start vector is always the same.

    Parameters
    ----------
    product : callable(v, out)
        Writes A v into ``out``; both have shape (dim,), float64, contiguous.
    dim : int
    tolerance : float
        Relative. Ends when r^2 / gap <= tolerance * lambda, where r is the residual's norm and gap the distance to the
        next Ritz value, and r <= 100 tolerance lambda, because two eigenvalues closer than r pass for one; or when a
        whole restart gained nothing, because the products are rounded more coarsely than that.
    max_iterations : int
        Most products. When they are used up, the best quotient so far, a lower bound, is returned.
    """
    size = min(_BASIS, dim)
    basis = np.zeros((size + 1, dim))
    small = np.zeros((size, size))  # basis[:size] A basis[:size]^T
    image = np.empty(dim)
    start = np.random.default_rng(0).standard_normal(dim)
    basis[0] = start / np.linalg.norm(start)
    filled, best, before = 0, 0.0, 0.0
    for _ in range(max_iterations):
        product(basis[filled], image)
        scale = float(np.linalg.norm(image))
        if not np.isfinite(scale):
            raise ConfigError(
                "the smoothness constant cannot be found: a curvature product is not finite, or its square"
            )
        known = basis[: filled + 1]
        along = known @ image
        image -= along @ known
        again = known @ image  # once more: rounding has left a trace of the known directions
        image -= again @ known
        along += again
        small[filled, : filled + 1] = small[: filled + 1, filled] = along
        filled += 1
        rest = float(np.linalg.norm(image))
        values, vectors = np.linalg.eigh(small[:filled, :filled])
        best = float(values[-1])
        residual = rest * abs(float(vectors[-1, -1]))
        gap = best - float(values[-2]) if filled > 1 else 0.0
        settled = residual <= 100.0 * tolerance * best and residual**2 <= gap * tolerance * best
        if filled == dim or rest <= 1e-14 * scale or settled:
            break
        image /= rest
        if filled == size:
            if best - before <= 0.01 * tolerance * best:
                break
            before = best
            kept = min(_KEPT, size - 1)
            basis[:kept] = vectors[:, -kept:].T @ basis[:size]
            small[:] = 0.0
            small[np.arange(kept), np.arange(kept)] = values[-kept:]
            filled = kept
        basis[filled] = image
    return max(best, 0.0)
