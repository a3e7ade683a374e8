"""What prefills and decode steps cost: measured tables, and a roofline fitted to them."""
