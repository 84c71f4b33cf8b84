"""The borrowing side: a stage of a node that runs here or on a lent worker, and goes where it is done in time."""
