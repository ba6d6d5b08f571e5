"""`python -m portal`: the command line."""

from portal.cli.main import main

main()
