"""What was declared: settings and API projects as frozen values. No clock, no socket."""
