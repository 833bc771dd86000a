"""What a run leaves for people: figures, pictures, and one page that shows them."""
