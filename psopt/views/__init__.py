"""Ways to look at runs that are over, or under way: reports, explanations, live views, predictions."""
