"""How configuration arrives: folders in, route tables out."""
