"""The parts of the Members page."""
