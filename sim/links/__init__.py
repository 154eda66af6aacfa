"""What links carry: protocols, packets and flits, from which the models `link` and `cxl` derive their efficiency."""
