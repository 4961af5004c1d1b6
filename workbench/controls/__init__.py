"""Controls around every call, one a file; `stack` sorts them."""
