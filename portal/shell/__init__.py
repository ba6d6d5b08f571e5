"""What stands around every page: who is looking, at which account, header, each run."""
