"""Local SGD and its relatives as literal loops: the oracle psopt is compared with.

Each takes ``gradients``, a list of M functions (x, rows) -> stochastic gradient of F_m, where F = sum of p_m F_m,
``batches[m][t]``, the rows that worker m sees at its step t, and ``step``, a function of t = 0, 1, ... Nothing here is
shared with psopt. Each returns the averages, one an instant.
"""

import numpy as np


def growing(T, R):
    """rho_i = floor(a i (i + 1) / 2), a = 2 T / (R (R + 1)), without zero and repetitions (arXiv 2106.04759)."""
    rho = {int(2 * T * i * (i + 1) // (2 * R * (R + 1))) for i in range(1, R + 1)}
    return sorted((rho | {T}) - {0})


def constant(T, R):
    return sorted({i * T // R for i in range(1, R + 1)} - {0})


def local_sgd(gradients, batches, x0, step, instants):
    """Everyone walks alone; after step t all are replaced by their average when t + 1 is an instant."""
    M, averages = len(gradients), []
    x = [x0.copy() for _ in range(M)]
    for t in range(instants[-1]):
        for m in range(M):
            x[m] = x[m] - step(t) * gradients[m](x[m], batches[m][t])
        if t + 1 in instants:
            averages.append(sum(x) / M)
            x = [averages[-1].copy() for _ in range(M)]
    return averages


def fedavg(gradients, batches, x0, step, local_steps, chosen, weights, momentum=0.0):
    """Algorithm 1 of arXiv 1602.05629, with the server's momentum of arXiv 1909.06335; ``chosen[k]`` take part."""
    x, v, averages, done = x0.copy(), np.zeros_like(x0), [], [0] * len(gradients)
    for k, some in enumerate(chosen):
        delta, total = np.zeros_like(x0), sum(weights[m] for m in some)
        for m in some:
            own = x.copy()
            for i in range(local_steps):
                own = own - step(k * local_steps + i) * gradients[m](own, batches[m][done[m]])
                done[m] += 1
            delta += weights[m] / total * (x - own)
        v = momentum * v + delta
        x = x - v
        averages.append(x)
    return averages


def diloco(gradients, batches, x0, step, local_steps, rounds, inner, outer_rate, outer_momentum):
    """Algorithm 1 of arXiv 2311.08105; ``inner`` is (beta1, beta2, epsilon, weight decay) of AdamW."""
    beta1, beta2, epsilon, decay = inner
    M, x, v, averages = len(gradients), x0.copy(), np.zeros_like(x0), []
    first, second, t = [np.zeros_like(x0) for _ in range(M)], [np.zeros_like(x0) for _ in range(M)], 0
    for _ in range(rounds):
        ends = []
        for m in range(M):
            own = x.copy()
            for s in range(t, t + local_steps):
                g = gradients[m](own, batches[m][s])
                first[m] = beta1 * first[m] + (1 - beta1) * g
                second[m] = beta2 * second[m] + (1 - beta2) * g**2
                own = own - step(s) * decay * own
                own = own - step(s) * (first[m] / (1 - beta1 ** (s + 1))) / (
                    np.sqrt(second[m] / (1 - beta2 ** (s + 1))) + epsilon
                )
            ends.append(own)
        t += local_steps
        delta = sum(x - own for own in ends) / M
        v = outer_momentum * v + delta
        x = x - outer_rate * (delta + outer_momentum * v)
        averages.append(x)
    return averages


def local_top_k(gradients, batches, x0, step, local_steps, rounds, k):
    """Qsparse-local-SGD (arXiv 1906.02367) without quantisation: what top-k leaves out is kept and said later."""
    M, x, averages = len(gradients), x0.copy(), []
    residual = [np.zeros_like(x0) for _ in range(M)]
    for r in range(rounds):
        total = np.zeros_like(x0)
        for m in range(M):
            own = x.copy()
            for t in range(r * local_steps, (r + 1) * local_steps):
                own = own - step(t) * gradients[m](own, batches[m][t])
            wanted = residual[m] + (x - own)
            kept = np.sort(np.argsort(-np.abs(wanted), kind="stable")[:k])
            said = np.zeros_like(x0)
            said[kept] = wanted[kept]
            residual[m] = wanted - said
            total += said
        x = x - total / M
        averages.append(x)
    return averages
