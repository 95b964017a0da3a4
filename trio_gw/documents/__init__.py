"""What the documents of an API say, read for people: topics, messages, schemas, files."""
