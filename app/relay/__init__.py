"""The right half: lease, deliver, settle."""
