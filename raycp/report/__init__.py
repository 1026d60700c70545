"""Tables, curves, image grids and the HTML page of certification runs."""
