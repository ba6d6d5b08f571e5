"""The frame of every page: the signed-in user, the account, the header, and each run."""
