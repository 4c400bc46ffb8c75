"""From a result tree to a page: statistics, figures, tables and words."""
