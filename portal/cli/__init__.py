"""The command line: `python -m portal COMMAND`, a module for each subject."""
