"""Run records and TensorBoard events."""
