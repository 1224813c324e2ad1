"""What every training run needs, whatever its loss: isolation, checkpoints, progress, several processes."""
