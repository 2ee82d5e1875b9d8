raise AssertionError("a __main__ module is not scanned")
