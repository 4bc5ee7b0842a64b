"""What closed forms cannot see, and the check on them: events, seeds, traces."""
