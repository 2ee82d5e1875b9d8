"""A bounded context of its own, with a blueprint."""
