"""The controls around every call, one per module; `stack` orders them."""
