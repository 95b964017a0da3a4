"""Making, changing, checking and reviewing API projects before they are deployed."""
