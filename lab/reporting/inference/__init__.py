"""The analysis of an ablation of inference compute."""
