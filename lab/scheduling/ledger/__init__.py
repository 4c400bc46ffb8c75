"""What ran, runs and will run: Optuna studies in a journal file or a database."""
