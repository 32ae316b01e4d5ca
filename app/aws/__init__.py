"""How AWS is called, and what speaks like it: clients with deadlines, and its errors in its own words."""
