"""The ordering context: from the cart to the order page."""
