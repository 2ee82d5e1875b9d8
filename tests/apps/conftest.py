"""The packages here are applications for the tests; none of them holds tests."""

collect_ignore_glob = ["*"]
