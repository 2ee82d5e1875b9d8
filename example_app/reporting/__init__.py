"""The reporting context: it reads what the others stored, and stores nothing."""
