"""Which run goes next, and where: an ablation's cells, the plan, the ledger, the driver, executors."""
