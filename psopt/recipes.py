"""Named algorithms: rows of a table, each with its source and its differences from the paper.

Sum convention throughout: F(theta) = sum over m of f_m(theta), where f_m carries its own share of any 1/n.
"""

from psopt.algorithm import Algorithm
from psopt.parts.aggregators import FreshMean
from psopt.parts.codecs import Increment, Overwrite
from psopt.parts.compressors import TopK
from psopt.parts.local_work import LocalAdamW, LocalSGD
from psopt.parts.plans import Fixed, Growing, OneShot
from psopt.parts.schedules import Constant
from psopt.parts.selections import BySmoothness, Cyclic, Sampled, SmoothnessDrift
from psopt.parts.starts import Zero
from psopt.parts.triggers import Innovation, MaxAge, Relative, SameSample, Snapshot
from psopt.parts.updates import AdamW, Momentum, Nesterov
from psopt.parts.work import Minibatch
from psopt.records import record

SASG = "Deng, Li, Sun, Lu: SASG, IEEE Trans. Big Data 2025, arXiv 2112.04088"
LASG = "Chen, Sun, Yin: LASG, arXiv 2002.11360"
LAG = "Chen, Giannakis, Sun, Yin: LAG, NeurIPS 2018, arXiv 1805.09965"
LOCAL = "Spiridonoff, Olshevsky, Paschalidis: From Local SGD to One-Shot Averaging, NeurIPS 2021, arXiv 2106.04759"
FEDAVG = "McMahan, Moore, Ramage, Hampson, Aguera y Arcas: FedAvg, AISTATS 2017, arXiv 1602.05629"

SPARSE = Overwrite(TopK(fraction=0.01), feedback=True, scale="step")


@record
class Recipe:
    """A row with a name.

    Attributes
    ----------
    title, source : str
        What it is, and the paper and equations it comes from.
    differences : str
        What psopt does otherwise than the paper; empty when nothing.
    row : Algorithm
    """

    title: str
    source: str
    row: Algorithm
    differences: str = ""


RECIPES: dict[str, Recipe] = {
    "gd": Recipe(
        "gradient descent: everyone uploads every round",
        f"{LAG}, eq. (2)",
        Algorithm(),
    ),
    "lag-wk": Recipe(
        "LAG, the workers decide: upload only a gradient that has changed; saves uplink",
        f"{LAG}, eqs. (4), (7a); D = 10, xi = 0.1",
        Algorithm(trigger=Innovation(window=10, xi=0.1)),
        "the aggregate is summed anew instead of kept by recursion; before D steps were taken the window is shorter",
    ),
    "lag-ps": Recipe(
        "LAG, the server decides from L_m: ask only workers whose gradient may have changed; saves both links and work",
        f"{LAG}, eqs. (4), (7b); D = 10, xi = 1",
        Algorithm(selection=SmoothnessDrift(window=10, xi=1.0)),
        "workers send whole gradients, the server keeps them; before D steps were taken the window is shorter",
    ),
    "sgd": Recipe(
        "stochastic gradient descent: everyone uploads the gradient of a batch every round",
        f"{SASG}, comparator; the step multiplies the sum over workers",
        Algorithm(work=Minibatch(10), step_size=Constant("0.005*M")),
    ),
    "sparse": Recipe(
        "SGD of which each worker sends the largest 1 % of each tensor and keeps the rest for later",
        "Stich, Cordonnier, Jaggi: Sparsified SGD with memory, NeurIPS 2018, arXiv 1809.07599; comparator in SASG",
        Algorithm(work=Minibatch(10), codec=SPARSE, step_size=Constant("0.005*M")),
        "top-k per tensor, as SASG has it; the step is applied before sparsifying",
    ),
    "lasg-wk1": Recipe(
        "LASG, workers decide by what has changed since a common snapshot",
        f"{LASG}, rule (WK1), c_d = 0.1 / step^2, D = 10",
        Algorithm(work=Minibatch(10), trigger=MaxAge(Snapshot(), 10), step_size=Constant("0.005*M")),
        "a refresh of the snapshot leaves the difference of the last upload as it was",
    ),
    "lasg-wk2": Recipe(
        "LASG, workers decide by the same batch at the iterate of their last upload",
        f"{LASG}, rule (WK2), c_d = 0.1 / step^2, D = 10",
        Algorithm(work=Minibatch(10), trigger=MaxAge(SameSample(), 10), step_size=Constant("0.005*M")),
    ),
    "lasg-ps": Recipe(
        "LASG, the server decides from L_m: ask only workers whose gradient may have changed",
        f"{LASG}, rule (PS), c_d = 0.1 / step^2, D = 10",
        Algorithm(
            selection=SmoothnessDrift(window=10, xi=0.1, max_age=10),
            work=Minibatch(10),
            step_size=Constant("0.005*M"),
        ),
        "L_m bounds the curvature of the whole shard, not of a batch",
    ),
    "sasg": Recipe(
        "sparse and adaptive SGD: the largest 1 % of each tensor, and only when the batch's gradient has changed",
        f"{SASG}, as its authors ran it: w <- w - sum S_m; D = 10, c = 1/2, warm-up of D rounds",
        Algorithm(
            start=Zero(forced_rounds=10),
            work=Minibatch(10),
            # c / (g M^2) for gradients that are batch means; psopt's carry 1/M and its step is M g.
            trigger=MaxAge(SameSample(window=9, xi=0.5, step_power=1, worker_power=3), 10),
            codec=SPARSE,
            step_size=Constant("0.005*M"),
        ),
        "with step g M the sum of the paper's code, g = 0.005; the paper writes the mean, which is step g and the "
        "trigger's `worker_power: 4`",
    ),
    "ef21": Recipe(
        "EF21: each worker sends the largest part of what the server's copy of its gradient still lacks",
        "Richtarik, Sokolov, Fatkhullin: EF21, NeurIPS 2021, arXiv 2106.05203; h = 0 before round 1",
        Algorithm(start=Zero(forced_rounds=1), codec=Increment(TopK(fraction=0.1)), step_size=Constant("0.1/L")),
        "the step is a tenth of 1/L; the paper's 1/(L + L~ sqrt(beta/theta)) is smaller still for small fractions",
    ),
    "clag": Recipe(
        "EF21 that stays silent while the gradient moves less than the server's copy of it lags behind",
        "Richtarik et al.: 3PC, ICML 2022, arXiv 2202.00998, CLAG; zeta = 32",
        Algorithm(
            start=Zero(forced_rounds=1),
            trigger=Relative(zeta=32.0),
            codec=Increment(TopK(fraction=0.1)),
            step_size=Constant("0.1/L"),
        ),
    ),
    "adamw": Recipe(
        "synchronous AdamW: everyone uploads the gradient of a batch, the server keeps the moments",
        "Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019, arXiv 1711.05101",
        Algorithm(work=Minibatch(10), update=AdamW(), step_size=Constant(1e-3)),
    ),
    "local-sgd": Recipe(
        "local SGD with growing rounds: as many messages a worker as there are workers, however long the run",
        f"{LOCAL}; H_i = a (i + 1), R = M rounds",
        Algorithm(Growing("M"), Zero(), work=LocalSGD(10), aggregator=FreshMean(), step_size=Constant(0.05)),
        "the step is a constant until one is set; the paper's is `inverse`: 2 / (mu (t + beta))",
    ),
    "one-shot": Recipe(
        "one-shot averaging: everyone trains alone and speaks once, at the end",
        f"{LOCAL}; R = 1",
        Algorithm(OneShot(), Zero(), work=LocalSGD(10), aggregator=FreshMean(), step_size=Constant(0.05)),
        "as for `local-sgd`",
    ),
    "fedavg": Recipe(
        "federated averaging: half of the workers a round, ten local steps, the mean weighed by samples",
        FEDAVG,
        Algorithm(
            Fixed(10), Zero(), Sampled(0.5), LocalSGD(10), aggregator=FreshMean("samples"), step_size=Constant(0.05)
        ),
        "a round is a number of local steps, not of epochs",
    ),
    "fedavgm": Recipe(
        "federated averaging with momentum at the server",
        "Hsu, Qi, Brown: Measuring the effects of non-identical data distribution, arXiv 1909.06335; beta = 0.9",
        Algorithm(
            Fixed(10),
            Zero(),
            Sampled(0.5),
            LocalSGD(10),
            aggregator=FreshMean("samples"),
            update=Momentum(0.9),
            step_size=Constant(0.01),
        ),
        "a round is a number of local steps, not of epochs",
    ),
    "diloco": Recipe(
        "hundreds of local AdamW steps, then a Nesterov step along the mean pseudo-gradient",
        "Douillard et al.: DiLoCo, arXiv 2311.08105; outer momentum 0.9, outer rate 0.7",
        Algorithm(
            Fixed(500),
            Zero(),
            work=LocalAdamW(10),
            aggregator=FreshMean(),
            update=Nesterov(0.9, rate=0.7),
            step_size=Constant(1e-3),
        ),
        "weight decay 0.01 instead of 0.1; the step is a constant until a schedule is set",
    ),
    "local-top-k": Recipe(
        "local SGD of which each worker sends the largest 1 % of each tensor and keeps the rest for later",
        "Basu, Data, Karakus, Diggavi: Qsparse-local-SGD, NeurIPS 2019, arXiv 1906.02367; without quantisation",
        Algorithm(
            Fixed(10),
            Zero(),
            work=LocalSGD(10),
            codec=Overwrite(TopK(fraction=0.01), feedback=True),
            aggregator=FreshMean(),
            step_size=Constant(0.05),
        ),
    ),
    "cyc-iag": Recipe(
        "incremental aggregated gradient: one worker a round, in turn",
        f"{LAG}, section 4 (comparator); step 1/(M L)",
        Algorithm(selection=Cyclic(), step_size=Constant("1/(M*L)")),
    ),
    "num-iag": Recipe(
        "incremental aggregated gradient: one worker a round, drawn with probability L_m / sum of L",
        f"{LAG}, section 4 (comparator); step 1/(M L)",
        Algorithm(selection=BySmoothness(), step_size=Constant("1/(M*L)")),
        "the table of the paper was made with the step 1/(2 sqrt(M) L): set step_size for that",
    ),
}
