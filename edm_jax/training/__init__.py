"""Training: state, step, loop, optimizer, moving average, checkpoints and metrics."""
