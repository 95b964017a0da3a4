"""The admin API: the reference system's REST API, and views of what runs."""
