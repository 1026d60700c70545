"""All checks of a run, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy
import scipy

from raycp.verify.boundaries import check_boundaries, derived_boundaries
from raycp.verify.certificates import check_certificates
from raycp.verify.checks import Check
from raycp.verify.inputs import check_data, check_weights
from raycp.verify.ledger import Ledger
from raycp.verify.record import check_record, read_record
from raycp.verify.redraw import check_redraw
from raycp.verify.terms import terms_of


def verify_run(
    path: str,
    overrides: Sequence[str] = (),
    num_blocks: int | None = 20,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Check a certify run by its own record.

    Args:
        path: the run directory, local or remote.
        overrides: `dotted.key=value` for files that have moved.
        num_blocks: rows of the ledger to draw again; None for none.
        seed: of their choice.
        note: told how far the drawing is.

    Returns:
        The checks in the order in which they were made; nothing is certain unless all passed.

    Raises:
        StorageError: there is no certify run to check.
        ConfigError: an override changes more than where files are.
    """
    record = read_record(path, overrides)
    config = check_record(record)
    images, data = check_data(record)
    weights, models = check_weights(record)
    terms, derived = terms_of(record)
    _warn_of_versions(derived, record.manifest["versions"])
    checks = [config, data, models, derived]

    tables = derived_boundaries(terms) if terms.has_boundaries else {}
    if terms.has_boundaries:
        checks.append(check_boundaries(record, terms, tables))
    ledger = Ledger(record)
    labels = (
        None if images is None else dict(zip(images.indices.tolist(), images.labels.tolist(), strict=True))
    )
    certificates = check_certificates(record, terms, tables, ledger, labels)
    checks += [ledger.check, certificates]
    if num_blocks is None:
        return checks
    if images is None or weights is None or not config.passed:
        reason = "not done: configuration, data or weights are not those of the run"
        return [*checks, Check("redraw", failures=[f"redraw: {reason}"])]
    return [*checks, check_redraw(record, ledger, images, weights, num_blocks, seed, note)]


def _warn_of_versions(check: Check, recorded: dict[str, object]) -> None:
    for module in (numpy, scipy):
        name, here = module.__name__, module.__version__
        if recorded.get(name) != here:
            check.warnings.append(
                f"made with {name} {recorded.get(name)}, checked with {here}: last digits may differ for that reason"
            )
