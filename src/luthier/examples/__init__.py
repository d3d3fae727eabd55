"""Examples: what every data format becomes, and the Arrow file that holds them."""
