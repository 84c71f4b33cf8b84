"""`python -m tests.netlab`: the relay, started by `lab`."""

from tests.netlab.relay import main

main()
