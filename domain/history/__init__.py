"""Credit history: charges, credit, payments and holds of an account in one list, and its files."""
