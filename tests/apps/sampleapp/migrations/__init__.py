raise AssertionError("tests and migrations are not scanned")
