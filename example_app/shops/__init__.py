"""The two shops: who they are, and which of them a request is for.

This is the only place that knows of tenants. To the contexts beside it there is
one shop.
"""
