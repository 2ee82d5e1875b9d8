"""Where aggregates are kept. Protocols stand beside what implements them."""
