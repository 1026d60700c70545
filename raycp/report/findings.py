"""What is found by comparing the runs of a suite, before any of it is written down as text, CSV, picture or page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raycp.config.claims import Claim
from raycp.config.suite import Suite
from raycp.report.claims import CheckedClaims, check_claims
from raycp.report.comparison import MethodRow, method_rows
from raycp.report.conditions import conditions
from raycp.report.curves import Curve, certified_curves
from raycp.report.envelopes import with_envelopes
from raycp.report.evaluation import EvaluationLike
from raycp.report.numerals import exact
from raycp.report.pareto import COSTS, Point, pareto_points
from raycp.report.quality import Quality, compare_quality
from raycp.report.results import RunLike
from raycp.report.table import ENVELOPE, Table, certified_table


@dataclass(frozen=True, eq=False)
class Findings:
    """The figures of a comparison.

    Attributes:
        runs: the methods that have a run, each named after its method, in the order of the suite.
        claims: of the suite, whether they could be checked or not.
        differences: in what the methods differ beside purifier and classifier, a sentence each.
        rows: of `table`, with costs.
        quality: of purified images; None where none were measured and no claim is about them.
    """

    runs: tuple[RunLike, ...]
    claims: tuple[Claim, ...]
    differences: tuple[str, ...]
    table: Table
    rows: tuple[MethodRow, ...]
    curves: tuple[Curve, ...]
    checked: CheckedClaims
    points: tuple[Point, ...]
    quality: Quality | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the table must know."""
        envelope = [f"envelope: {ENVELOPE}."] if any(row.sigma is None for row in self.table.rows) else []
        return (
            *self.table.notes,
            *envelope,
            *self.checked.notes,
            *self.pareto_notes,
            *self.differences,
        )

    @property
    def imported(self) -> tuple[str, ...]:
        """The published logs that have rows."""
        rows = (row for row in self.rows if row.row.sigma is not None)
        return tuple(dict.fromkeys(row.row.run for row in rows if row.imported))

    @property
    def pareto_notes(self) -> tuple[str, ...]:
        """On which images the points are, where they are not all images of all methods."""
        if not self.points:
            return ()
        images, shown = self.points[0].images, {point.method for point in self.points}
        absent = [run.name for run in self.runs if run.name not in shown and run.name not in self.imported]
        notes = []
        if any(row.row.num_images != images for row in self.rows if row.row.run in shown):
            notes.append(f"pareto: accuracy on the {images:,} images that all of its methods have.")
        if absent:
            notes.append(f"pareto: without {', '.join(absent)}, unfinished or of other data.")
        if self.imported:
            notes.append(
                f"pareto: without {', '.join(self.imported)}, imported: what they cost is not known."
            )
        return tuple(notes)

    @property
    def drawn(self) -> list[str]:
        """The methods in the order that gives them their colours."""
        return list(dict.fromkeys(curve.run for curve in self.curves))

    @property
    def priced(self) -> bool:
        """Whether a point has a known cost, so that there is something to draw."""
        return any(point.cost(kind) is not None for point in self.points for kind in COSTS)

    def common_conditions(self, images: Sequence[int], imported: bool = True) -> str:
        """Of a picture of so many images per method: what is one for all, in words.

        Published logs are held to be of the methods' data; `imported` says whether the picture has them.
        """
        setups = [conditions(run) for run in self.runs if imported or run.name not in self.imported]
        facts = [
            [f"N = {setup.num_estimation:,}" if setup.num_estimation else "" for setup in setups],
            [f"α = {exact(setup.alpha)}" if setup.alpha else "" for setup in setups],
            [f"rule {setup.rule}" if setup.rule else "" for setup in setups],
            [f"{number:,} images" for number in images],
            [setup.data for setup in setups if not setup.imported],
        ]
        return ", ".join(values[0] for values in facts if len(set(values)) == 1 and values[0])


def compare_methods(
    suite: Suite, runs: Sequence[RunLike], evaluations: Sequence[EvaluationLike] = ()
) -> Findings:
    """Compare the methods that have a run.

    Args:
        suite: its claims, its radii, its envelopes, and in what its methods differ.
        runs: at least one, each named after its method, in the order of the suite.
        evaluations: of purified images, named and ordered likewise.

    Raises:
        StorageError: certificates are damaged.
    """
    table = with_envelopes(certified_table(runs), runs, suite.envelopes)
    rows = method_rows(runs, table)
    claims = tuple(claim for claim in suite.claims if claim.metric is None)
    return Findings(
        runs=tuple(runs),
        claims=claims,
        differences=tuple(f"{note}." for note in suite.notes()),
        table=table,
        rows=tuple(rows),
        curves=certified_curves(runs),
        checked=check_claims(claims, {run.name: run for run in runs}),
        points=tuple(pareto_points(runs, rows, suite.pareto_radii)),
        quality=compare_quality(suite.claims, evaluations),
    )
