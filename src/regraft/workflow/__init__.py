"""What needs several rooms in a row."""
