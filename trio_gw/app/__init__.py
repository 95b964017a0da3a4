"""The composition root: builds and runs the parts of one process, and starts several workers."""
