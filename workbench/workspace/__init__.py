"""What `wb.connect` returns, and the boundary that it composes."""
