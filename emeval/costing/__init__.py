"""What a run will ask, and what that costs, before it is asked: `emeval run --dry-run`."""
