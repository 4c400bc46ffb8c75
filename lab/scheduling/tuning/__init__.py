"""Hyper-parameters of each arm, searched by Optuna at equal budgets."""
