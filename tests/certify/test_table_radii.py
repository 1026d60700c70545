"""Radii of the table: what N can certify at all, and what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from raycp.certify.radii import largest_radii, table_radii
from raycp.config import CertifyProtocol
from raycp.errors import ConfigError


def protocol(**options: Any) -> CertifyProtocol:
    return CertifyProtocol(**{"sigmas": [0.25, 0.5], "num_estimation": 1_000, **options})


def no_slack(made: CertifyProtocol) -> dict[float, float]:
    return dict.fromkeys(made.sigmas, 0.0)


def test_largest_radii() -> None:
    made = protocol()
    radii = largest_radii(made, {0.25: 0.0, 0.5: 0.01})
    assert radii[0.25] == pytest.approx(0.25 * norm.ppf(0.001**0.001), abs=1e-9)
    assert radii[0.5] == pytest.approx(0.5 * norm.ppf(0.001**0.001 - 0.01), abs=1e-9)
    two_class = largest_radii(protocol(bound="two_class"), no_slack(made))
    assert two_class[0.25] == pytest.approx(0.25 * norm.ppf(0.0005**0.001), abs=1e-9)


def test_default_radii_less_those_out_of_reach() -> None:
    made = protocol()  # reaches 0.5 * 2.463 = 1.23
    assert table_radii(made, no_slack(made)) == ([0.0, 0.25, 0.5, 0.75, 1.0], [])
    made = protocol(sigmas=[0.25])  # 0.616
    assert table_radii(made, no_slack(made)) == ([0.0, 0.25, 0.5], [0.75, 1.0])
    made = protocol(sigmas=[0.25], num_estimation=10)  # 0.0007
    assert table_radii(made, no_slack(made)) == ([0.0], [0.25, 0.5, 0.75, 1.0])


def test_given_radii_stay_in_their_order() -> None:
    made = protocol(radii=[1.2, 0.0, 0.3])
    assert table_radii(made, no_slack(made)) == ([1.2, 0.0, 0.3], [])


def test_a_radius_out_of_reach_is_an_error() -> None:
    made = protocol(radii=[0.5, 1.25, 3.0])
    with pytest.raises(ConfigError) as caught:
        table_radii(made, no_slack(made))
    assert str(caught.value) == (
        "certify.radii contains 1.25, but certify.num_estimation = 1000 at certify.alpha = 0.001 certifies at most "
        "1.231 (sigma 0.5). Raise N, or leave the radius out."
    )


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 0.4), st.sampled_from(["one_sided", "two_class"]))
def test_the_smallest_sufficient_n_is_named(alpha: float, bound: str) -> None:
    few = protocol(num_estimation=1, alpha=alpha, bound=bound)
    with pytest.raises(ConfigError) as caught:
        table_radii(few, no_slack(few))
    message = str(caught.value)
    assert message.startswith("certify.num_estimation = 1 cannot certify any image at certify.alpha = ")
    enough = int(message.rpartition("at least ")[2].rstrip("."))
    just = few.model_copy(update={"num_estimation": enough})
    assert table_radii(just, no_slack(just))[0] == [0.0]
    short = few.model_copy(update={"num_estimation": enough - 1})
    with pytest.raises(ConfigError):
        table_radii(short, no_slack(short))


def test_ten_samples_suffice_at_one_in_a_thousand() -> None:
    """0.001^(1/10) = 0.501."""
    few = protocol(num_estimation=9)
    with pytest.raises(
        ConfigError, match=r"even 9 equal votes leave p_A below 1/2\. It must be at least 10\.$"
    ):
        table_radii(few, no_slack(few))
