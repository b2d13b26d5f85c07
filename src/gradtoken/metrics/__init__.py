"""One file each family of metrics."""
