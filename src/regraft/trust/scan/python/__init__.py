"""What Python source would do, read from its syntax tree: nothing here is imported or executed."""
