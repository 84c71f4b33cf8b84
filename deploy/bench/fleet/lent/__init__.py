"""What lent workers of the benchmarks run: the folder that their lender is given."""
