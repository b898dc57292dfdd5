"""Step sizes: what is a formula and what is not, what it comes out as, and how it decays."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt.errors import ConfigError
from psopt.parts import formulas, schedules


def test_decaying_formula():
    part = schedules.Decaying("1/L", offset=4.0, power=2.0)
    assert [part.at(1.0, k) for k in (1, 5, 13)] == [1.0, 0.25, 0.0625]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("1/L", 0.5),
        ("2*1/(sqrt(M)*L)", 1 / 3),
        ("1/(M*L)", 1 / 18),
        ("0.5", 0.5),
        (0.25, 0.25),
        (2, 2.0),
        ("L**2 - M/3", 1.0),
        ("(1 + M) / 1e1", 1.0),
    ],
)
def test_formulas(formula, expected):
    assert formulas.evaluate(formula, {"L": 2.0, "M": 9.0}) == pytest.approx(expected, rel=1e-15)
    assert schedules.Constant(formula).initial == formula


NO_FORMULA = [
    "__import__('os')",
    "L.real",
    "'x'",
    "",
    "1/",
    "x",
    "L[0]",
    "M if L else 1",
    "-1",
    "+1",
    "True",
    "1j",
    "1;2",
]
NO_FORMULA += ["lambda: 1", "L()", "sqrt(L, M)", "sqrt(x=L)", "abs(L)", "1 < 2", "1\0", "(" * 500 + "1" + ")" * 500]
NO_FORMULA += ["+".join(["1"] * 5000), "9" * 5000, "sqrt(L)(M)", "L if", "nan", "inf", "\ud800"]
NO_STEP = [
    "1/0",
    "9**9**9",
    "0",
    "1-2",
    "1-1",
    "9**(1-9)**9**9",
    "(1-2)**0.5",
    "sqrt((1-2)**0.5)",
    "sqrt(1-2)",
    "1e999",
]
NO_STEP += ["0x" + "f" * 180 + "**9", "0**(1-2)", "sqrt(9**9**9)", 0.0, -1.0, math.inf, math.nan]


@pytest.mark.parametrize("formula", NO_FORMULA, ids=lambda text: repr(text[:20]))
def test_no_formula(formula):
    with pytest.raises(ConfigError, match="is not a step size; expected a number or a formula in L"):
        formulas.evaluate(formula, {"L": 2.0, "M": 9.0})
    with pytest.raises(ConfigError) as caught:
        schedules.Constant(formula)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("formula", NO_STEP, ids=lambda f: repr(f)[:20])
def test_no_positive_step(formula):
    for made in (lambda: formulas.evaluate(formula, {}), lambda: schedules.Decaying(formula)):
        with pytest.raises(ConfigError, match="expected a positive number"):
            made()


def test_a_formula_that_depends_on_what_is_not_known_yet_is_judged_later():
    assert schedules.Constant("1/(L-2)").initial == "1/(L-2)"
    with pytest.raises(ConfigError, match="comes out as nan"):
        formulas.evaluate("1/(L-2)", {"L": 2.0, "M": 1.0})


@given(st.text(alphabet="LM0123456789.+-*/()sqrt e'_", max_size=30))
@settings(max_examples=300, deadline=1000)
def test_any_text_is_a_step_size_or_a_sentence(text):
    try:
        value = formulas.evaluate(text, {"L": 3.0, "M": 9.0})
    except ConfigError:
        return
    assert 0 < value < math.inf
