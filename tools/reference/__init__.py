"""What stands on the generated pages of docs/reference: one module a page."""
