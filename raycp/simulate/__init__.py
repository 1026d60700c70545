"""Replays of sampling rules on the p_A of real images: what a rule would cost and certify, before a sample is drawn."""
