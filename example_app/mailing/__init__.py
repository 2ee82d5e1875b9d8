"""The mailing context: letters to shoppers, written in the background."""
