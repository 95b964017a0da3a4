"""What the gateway says about itself. A leaf: never blocks, never raises."""
