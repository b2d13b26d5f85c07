"""One file each data set or layout."""
