"""Lists for a product: filters, orders, pages, and what waits for somebody."""
