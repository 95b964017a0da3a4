"""What the worker processes of one gateway share: state in shared memory, and RPC."""
