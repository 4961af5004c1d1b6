"""One control a file; `onion` holds their order."""
