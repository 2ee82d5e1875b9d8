"""The catalogue context: products, prices and what is left on the shelf."""
