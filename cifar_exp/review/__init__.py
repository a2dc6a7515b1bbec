"""What a team does with logged runs: compare them, with each other and with what was published."""
