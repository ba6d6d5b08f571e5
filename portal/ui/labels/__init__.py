"""Names and sentences for what is stored as codes; a module for each subject."""
