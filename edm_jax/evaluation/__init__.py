"""How far images are from data: Fréchet and kernel distances, precision, recall, and their kin."""
