"""What settings must satisfy beyond their types, a room per group of tables."""
