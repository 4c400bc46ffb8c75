"""One short declarative module per ablation."""
