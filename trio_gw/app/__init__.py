"""The composition root: builds the parts of one process and runs them; starts several workers."""
