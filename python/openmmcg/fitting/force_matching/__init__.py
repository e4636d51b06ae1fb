"""Force matching, with cross-validation and grid search."""
