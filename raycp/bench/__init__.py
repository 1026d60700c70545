"""`raycp bench`: the engine against the bare forward pass of the same models, and the limits of the driver."""
