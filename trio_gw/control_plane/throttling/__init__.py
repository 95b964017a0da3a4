"""The Traffic Manager of API Manager: events of frames for it, and its decisions."""
