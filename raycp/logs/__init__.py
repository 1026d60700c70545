"""Certification logs as others publish them: read in every variant, imported beside runs, audited, written."""
